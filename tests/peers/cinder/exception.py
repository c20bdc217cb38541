"""Exceptions shaped as cinder's, so that a remote failure can be rebuilt."""


class CinderException(Exception):
    message = "An unknown exception occurred."
    code = 500

    def __init__(self, message=None, **kwargs):
        self.kwargs = dict(kwargs, code=kwargs.get("code", self.code))
        if not message:
            message = self.message % kwargs
        self.msg = message
        super(CinderException, self).__init__(message)


class Invalid(CinderException):
    message = "Unacceptable parameters."
    code = 400


class InvalidVolume(Invalid):
    message = "Invalid volume: %(reason)s"
