"""Every error that Longleaf raises on purpose.

    LongleafError
    ├── DocumentError               a file that can't be taken in; `.path` names it
    │   ├── UnsupportedFileError    not a PDF, text or Markdown file (or no file at all)
    │   ├── EmptyDocumentError      zero bytes, or no pages
    │   ├── DamagedFileError        cut off or corrupt
    │   ├── PasswordError           encrypted, and the password is missing or wrong
    │   ├── NoTextError             nothing but images, and no OCR at hand
    │   └── ParserLimitError        the parser ran out of its time or memory
    ├── LibraryError                the library on disk
    │   ├── DocumentNotFoundError   no such document in the library
    │   ├── StorageError            full disk, read-only folder, unreadable database
    │   └── SchemaVersionError      the library was made by a newer Longleaf
    ├── ModelError                  the reader or the embedder
    │   ├── UnknownModelError       no model of that name
    │   ├── ModelNotInstalledError  its weights are not on this machine
    │   ├── ModelDownloadError      no source could deliver its weights
    │   ├── ContextOverflowError    a prompt longer than the model's context
    │   ├── ReaderError             a chat model of another provider can't be reached, or refuses
    │   └── StateError              a saved state that can't be used
    │       ├── StateMismatchError  made by another model, or other settings
    │       └── DamagedStateError   cut, altered, or not a state
    ├── QuestionError               a question that can't be asked as it stands
    └── MissingExtraError           an optional library is not installed

Each message says what happened, to what, and what to do about it. The command line prints it as one line and exits
with 1.
"""

from pathlib import Path

__all__ = [
    "ContextOverflowError",
    "DamagedFileError",
    "DamagedStateError",
    "DocumentError",
    "DocumentNotFoundError",
    "EmptyDocumentError",
    "LibraryError",
    "LongleafError",
    "MissingExtraError",
    "ModelDownloadError",
    "ModelError",
    "ModelNotInstalledError",
    "NoTextError",
    "ParserLimitError",
    "PasswordError",
    "QuestionError",
    "ReaderError",
    "SchemaVersionError",
    "StateError",
    "StateMismatchError",
    "StorageError",
    "UnknownModelError",
    "UnsupportedFileError",
]


class LongleafError(Exception):
    """Base of all errors raised on purpose; `str(error)` is meant for the user."""


class DocumentError(LongleafError):
    """A file that can't be taken in.

    Args:
        path: The file, as the user named it.
        reason: What is wrong with it and what to do; follows the file's name in the message.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class UnsupportedFileError(DocumentError):
    """Not a PDF, text or Markdown file, or no file at all."""


class EmptyDocumentError(DocumentError):
    """Zero bytes, or no pages."""


class DamagedFileError(DocumentError):
    """Cut off or corrupt."""


class PasswordError(DocumentError):
    """Encrypted, and the password is missing or wrong."""


class NoTextError(DocumentError):
    """Nothing but images, and no OCR at hand."""


class ParserLimitError(DocumentError):
    """The parser ran out of its time or memory."""


class LibraryError(LongleafError):
    """The library on disk."""


class DocumentNotFoundError(LibraryError):
    """No such document in the library."""


class StorageError(LibraryError):
    """Full disk, read-only folder or unreadable database."""


class SchemaVersionError(LibraryError):
    """The library was made by a newer Longleaf."""


class ModelError(LongleafError):
    """The reader or the embedder."""


class UnknownModelError(ModelError):
    """No model of that name."""


class ModelNotInstalledError(ModelError):
    """The model's weights are not on this machine."""


class ModelDownloadError(ModelError):
    """No source could deliver the model's weights."""


class ContextOverflowError(ModelError):
    """A prompt longer than the model's context."""


class ReaderError(ModelError):
    """A chat model of another provider can't be reached, or refuses."""


class StateError(ModelError):
    """A saved state that can't be used."""


class StateMismatchError(StateError):
    """Made by another model, or with other settings."""


class DamagedStateError(StateError):
    """Cut, altered, or not a state."""


class QuestionError(LongleafError):
    """A question that can't be asked as it stands."""


class MissingExtraError(LongleafError):
    """An optional library is not installed; the message names the extra."""
