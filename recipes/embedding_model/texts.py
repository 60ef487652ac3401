"""The texts that the served embedding model is compared on: prose, code, other languages, short and very long."""

from pydoc_data.topics import topics

SHORT = (
    "GPU",
    "What is a penstock?",
    "The invoice of November is final.",
    "How do I install a package into a virtual environment?",
    "A tenant's quota says how many devices it may hold at most.",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT count(*) FROM segment WHERE state = 'sold_busy' GROUP BY device_class;",
    "Der Speicher des Knotens ist voll; geben Sie etwas frei und versuchen Sie es noch einmal.",
    "La facture du mois de novembre est définitive.",
    "機械学習モデルの重みは整数に変換される。",
    "3.14159 2.71828 1.41421 0.57721 1.61803",
    "https://example.org/a/b?c=d&e=f#g",
    "!!! ??? ... --- ///",
    "The quick brown fox jumps over the lazy dog. " * 8,
    "kernel: [12345.678901] nvidia 0000:17:00.0: GPU has fallen off the bus (Xid 79)",
    "🚀 ship it ✅",
)
TOPICS = ("for", "with", "lambda", "typesseq", "string-methods", "exceptions", "import", "operator-summary")


def texts() -> list[str]:
    """Return all texts; the last ones are longer than the model's 256 tokens."""
    return [*SHORT, *(" ".join(topics[name].split())[:2_000] for name in TOPICS)]
