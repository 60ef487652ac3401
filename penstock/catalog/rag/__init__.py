"""Kind ``rag``: a knowledge base, what makes its vectors, and a text model that answers from it and cites."""
