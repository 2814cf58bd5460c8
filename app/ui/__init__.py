"""What the pages of the browser front door are drawn with."""

__all__: list[str] = []
