"""Around every call: request id, errors to status codes, one line of log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from conceptseg.domain.errors import (
    CancelledByCallerError,
    ConceptSegError,
    DeviceMemoryError,
    InvalidRequestError,
)
from conceptseg.rpc.activity import Activity
from conceptseg.rpc.callers import Callers, Requests
from conceptseg.rpc.errors import ERROR_KEY, REQUEST_ID_KEY, status_of
from conceptseg.rpc.limits import Limits
from conceptseg.rpc.logs import choose_request_id, request_id

_log = logging.getLogger(__name__)
_OWN_SERVICE = "/conceptseg."
_OUT_OF_MEMORY = (
    "The server's computer has no memory left for this. Choose a smaller region, or try again when fewer calls run."
)


class CallInterceptor(grpc.ServerInterceptor):
    """Turns errors into status codes by the one table, logs every call, and bounds the calls of a client."""

    def __init__(self, activity: Activity, limits: Limits) -> None:
        self._activity = activity
        self._callers = Callers(most=limits.calls_per_client)
        self._requests = Requests(seconds=limits.stall_seconds)

    def cancel_half_requests(self) -> None:
        """Hang up on clients that began a call long ago and did not send its message."""
        self._requests.cancel_overdue()

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of the call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None  # grpc answers UNIMPLEMENTED
        method = handler_call_details.method
        wanted = str(dict(handler_call_details.invocation_metadata).get("x-request-id", ""))
        behaviour = (
            handler.stream_stream
            if handler.request_streaming and handler.response_streaming
            else handler.stream_unary
            if handler.request_streaming
            else handler.unary_stream
            if handler.response_streaming
            else handler.unary_unary
        )

        def received(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
            if handler.request_streaming:
                return _messages(messages)
            with self._requests.expected(context):
                return _only(_messages(messages))

        def unary(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
            with self._call(method, wanted, context):
                return behaviour(received(messages, context), context)

        def stream(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with self._call(method, wanted, context):
                yield from behaviour(received(messages, context), context)

        # As streams of messages also where there is only one: grpc would wait for it itself, in a thread of the server
        # and for ever, before anybody here knows of the call.
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(
            stream if handler.response_streaming else unary,
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    @contextmanager
    def _call(self, method: str, wanted_id: str, context: grpc.ServicerContext) -> Iterator[None]:
        identifier = choose_request_id(wanted_id)
        request_id.set(identifier)
        started = time.perf_counter()
        status = "CANCELLED"  # what it was if neither branch below is reached: the client went away
        try:
            with self._callers.call(context.peer()), self._activity.call(counts=method.startswith(_OWN_SERVICE)):
                yield
            status = "OK"
        except ConceptSegError as error:
            code, message = status_of(error)
            status = code.name
            _log.info("%s: %s", type(error).__name__, message)
            _abort(context, code, message, error=type(error).__name__, identifier=identifier)
        except MemoryError:
            status = grpc.StatusCode.RESOURCE_EXHAUSTED.name
            _log.exception("Out of memory.")
            code, message = status_of(DeviceMemoryError(_OUT_OF_MEMORY))
            _abort(context, code, message, error=DeviceMemoryError.__name__, identifier=identifier)
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the trace
            status = "INTERNAL"
            _log.exception("A fault of the server.")
            _abort(
                context,
                grpc.StatusCode.INTERNAL,
                f"The server made a mistake. Its log tells what happened under the request id {identifier}; please "
                "report it with those lines.",
                error="ServerError",
                identifier=identifier,
            )
        finally:
            milliseconds = round(1000 * (time.perf_counter() - started), 2)
            fields = {"method": method, "status": status, "ms": milliseconds, "peer": context.peer()}
            _log.log(
                logging.INFO if method.startswith(_OWN_SERVICE) else logging.DEBUG, "call", extra={"fields": fields}
            )
            request_id.set("")


def _abort(
    context: grpc.ServicerContext, code: grpc.StatusCode, message: str, *, error: str, identifier: str
) -> NoReturn:
    context.set_trailing_metadata(((ERROR_KEY, error), (REQUEST_ID_KEY, identifier)))
    context.abort(code, message)
    raise AssertionError("abort always raises")


class _Malformed:
    """Stands for a message that is not protobuf: grpc itself would answer INTERNAL."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialize is None:
        return None

    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _Malformed(str(error))

    return parse


def _message(message: Any) -> Any:
    if isinstance(message, _Malformed):
        raise InvalidRequestError(
            f"The message is not what conceptseg.v1 says ({message.reason}). Client and server may be of different "
            "versions: compare GetServerInfo.protocol_revision."
        )
    return message


def _messages(messages: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from map(_message, messages)
    except grpc.RpcError as error:
        # grpc keeps this error for as long as the call, and its traceback would keep this frame.
        error.__traceback__ = None
        raise CancelledByCallerError("The client went away.") from None


def _only(messages: Iterator[Any]) -> Any:
    for message in messages:
        return message
    raise InvalidRequestError("Expected a message, but the client ended its call without one.")
