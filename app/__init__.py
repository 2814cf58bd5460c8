"""What people touch: the command line and the browser front door."""

__all__: list[str] = []
