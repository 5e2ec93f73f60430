"""The one hierarchy of errors. Every message names what was wrong, where, and the way out."""

from __future__ import annotations


class LeptonError(Exception):
    """Base of every error Lepton raises on purpose."""


class ConfigurationError(LeptonError):
    """An option, environment variable or configuration file cannot be used."""


class ModelNotFoundError(LeptonError):
    """No model file, folder or catalogue entry answers to the given name."""


class DownloadError(LeptonError):
    """A model could not be fetched, or what was fetched does not match its checksum."""


class ModelFormatError(LeptonError):
    """A model file is damaged or uses a feature that is not supported.

    The message is composed from the parts given, so that it always names the file and, where
    they are known, the tensor (or metadata key) and the byte offset.
    """

    def __init__(
        self,
        message: str,
        *,
        file: object | None = None,
        tensor: str | None = None,
        offset: int | None = None,
    ) -> None:
        self.file = None if file is None else str(file)
        self.tensor = tensor
        self.offset = offset
        places = [
            part
            for part in (
                self.file,
                f"tensor {tensor!r}" if tensor is not None else None,
                f"byte {offset:,}" if offset is not None else None,
            )
            if part
        ]
        super().__init__(f"{', '.join(places)}: {message}" if places else message)


class DataError(LeptonError):
    """A table of texts cannot be read, written or used as it is.

    The message is composed from the parts given, so that it always names the file and, where they
    are known, the line and the column.
    """

    def __init__(
        self,
        message: str,
        *,
        file: object | None = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        self.file = None if file is None else str(file)
        self.line = line
        self.column = column
        places = [
            part
            for part in (
                self.file,
                f"line {line:,}" if line is not None else None,
                f"column {column!r}" if column is not None else None,
            )
            if part
        ]
        super().__init__(f"{', '.join(places)}: {message}" if places else message)


class RequestError(LeptonError):
    """A request is invalid: the caller must change it.

    ``param`` names the offending field; ``code`` is a machine-readable reason such as
    ``context_length_exceeded`` or ``unsupported_parameter``.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class CapacityError(LeptonError):
    """The engine is full; the same request may succeed after ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(LeptonError):
    """The engine is loading, draining or stopped and takes no new requests."""


class EngineError(LeptonError):
    """A step failed for reasons that are not the request's fault."""


def describe(error: Exception) -> str:
    """What a reader may know: our own messages in full, of others the kind only."""
    if isinstance(error, LeptonError):
        return str(error)
    return f"internal error ({type(error).__name__})"
