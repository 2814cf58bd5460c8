"""The HTTP front door: OpenAI's chat, models and embeddings on our own models, and the library's documents."""

__all__: list[str] = []
