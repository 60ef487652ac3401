// A real, certified OpenID provider (npm "oidc-provider", MIT) with test users. Its development log-in page takes any name
// as the subject and checks no password: for tests only. Everything comes as one JSON argument; prints one line when ready.
import Provider from 'oidc-provider';

const { port, redirects, users } = JSON.parse(process.argv.at(-1));
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'penstock', client_secret: 'secret of a test', redirect_uris: redirects,
    grant_types: ['authorization_code'], response_types: ['code'],
  }],
  claims: { openid: ['sub', 'auth_time'], email: ['email', 'email_verified'], groups: ['groups'] },
  scopes: ['openid', 'email', 'groups'],
  pkce: { required: () => true },
  cookies: { keys: ['test-only'] },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...(users[sub] || {}) }) }),
});
provider.listen(port, '127.0.0.1', () => console.log(JSON.stringify({ issuer })));
