"""Every error a user can cause or must act on.

The core raises these and nothing else on bad input; the command line turns them into one line and an exit
code, the server into a gRPC status. A message says what happened, what was expected, and the way out.
"""


class ConceptSegError(Exception):
    """Base of all errors whose message is meant for the user."""


class InvalidRequestError(ConceptSegError):
    """A parameter is out of range or two parameters contradict each other."""


class ImageError(ConceptSegError):
    """The image cannot be opened or read: not an image, truncated, an unsupported pixel type."""


class MissingPixelSizeError(ImageError):
    """The image carries no calibration and none was given."""


class RegionError(InvalidRequestError):
    """The region is empty or lies outside the image."""


class EncoderError(ConceptSegError):
    """The encoder is unknown, or its architecture does not fit its description."""


class WeightsUnavailableError(EncoderError):
    """The weights are gated, unreachable, missing, or do not fit the architecture."""


class DictionaryError(ConceptSegError):
    """The dictionary file is damaged, of an unknown version, unsafe, or belongs to another encoder."""


class DeviceMemoryError(ConceptSegError):
    """Even a batch of one tile does not fit the device's memory."""


class OutputError(ConceptSegError):
    """A result cannot be written; nothing was left half-written."""


class ProjectError(ConceptSegError):
    """A QuPath project cannot be read or written, is in use, or was changed by somebody else; nothing was lost."""


class CancelledByCallerError(ConceptSegError):
    """The caller asked to stop, or its deadline passed; there is no result."""


class WorkerLostError(ConceptSegError):
    """Whoever did the work went away: a process that was killed, a server that ended. Asking again may work."""
