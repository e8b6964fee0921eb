"""Describes the interface as an OpenAPI 3.1 document."""

from collections.abc import Mapping, Sequence
from typing import Any

import svtas_jax
from svtas_jax.serving.exports import FORMATS
from svtas_jax.serving.jobs import SHOWN_METRICS

Json = dict[str, Any]
_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_PAIR = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}


def describe(class_names: Sequence[str]) -> Json:
    """Returns the document for a model with these classes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "svtas_jax",
            "version": svtas_jax.__version__,
            "summary": "Action segmentation of live video.",
            "description": "Every error is JSON with one field, error. If the server "
            "was started with a token, every request but /healthz must show it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}, {"query": []}, {"cookie": []}],
        "paths": {
            **_source_paths(),
            **_stream_paths(),
            **_job_paths(),
            **_other_paths(),
        },
        "components": {
            "schemas": _schemas(class_names),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "token"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "svtas_jax"},
            },
        },
    }


def _source_paths() -> Json:
    one = [_path_parameter("number", "Number of the source, from 0.")]
    return {
        "/sources": {
            "get": _operation(
                "The model, its classes, and all sources.", {200: _json("Sources")}
            )
        },
        "/sources/{number}": {
            "get": _operation(
                "A source: state, last answer, counters.",
                {200: _json("Source"), 404: None},
                one,
            )
        },
        "/sources/{number}/results": {
            "get": _operation(
                "All that a source has shown so far, as a file.",
                {200: _files("Session"), 404: None, 409: None, 422: None},
                [*one, _FORMAT],
            )
        },
        "/sources/{number}/picture": {
            "get": _operation(
                "The newest picture of a source.",
                {200: _body("image/jpeg", {}), 404: None},
                one,
            )
        },
        "/sources/{number}/video": {
            "get": _operation(
                "Every step's picture as it comes; it never ends by itself.",
                {200: _body("multipart/x-mixed-replace", {}), 404: None},
                one,
            )
        },
    }


def _stream_paths() -> Json:
    every = {
        "name": "every",
        "in": "query",
        "description": "Events of every step, or of segments only.",
        "schema": {"enum": ["step", "segment"], "default": "step"},
    }
    source = {
        "name": "source",
        "in": "query",
        "description": "Only this source.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,6}$"},
    }
    return {
        "/events": {
            "get": _operation(
                "Server-sent events: step (an answer with all scores), segment (one "
                "that has ended), counters (once a second), source (its state changed) "
                "and lost (how many events this client was too slow for).",
                {200: _body("text/event-stream", _TEXT), 404: None, 422: None}
                | {503: None},
                [every, source],
            )
        },
        "/live": {
            "get": _operation(
                "WebSocket. Send binary messages: 8 bytes with the capture time in "
                "seconds (float64, little-endian), then a JPEG. Each is answered by "
                "JSON with frame, time_s, dropped (pictures that newer ones replaced) "
                "and steps (the model's answers, as in the event step).",
                {101: {"description": "It goes on as a WebSocket."}, 426: None},
            )
        },
    }


def _job_paths() -> Json:
    one = [_path_parameter("id", "As POST /segment returned it.")]
    form = {
        "type": "object",
        "required": ["video"],
        "additionalProperties": False,
        "properties": {
            "video": {"type": "string", "contentMediaType": "video/*", "minLength": 1},
            "labels": {
                "type": "string",
                "contentMediaType": "text/plain",
                "description": "True classes: one name a line, one line a frame.",
            },
        },
    }
    post = _operation(
        "Segment a video file. It waits in a queue: ask GET /jobs/{id}.",
        {202: _json("Job"), **dict.fromkeys((408, 413, 415, 422, 503))},
    )
    post["requestBody"] = {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}},
    }
    return {
        "/segment": {"post": post},
        "/jobs/{id}": {
            "get": _operation(
                "How far a job is, and its result.", {200: _json("Job"), 404: None}, one
            ),
            "delete": _operation(
                "End a job and forget it.",
                {204: {"description": "It is gone."}, 404: None},
                one,
            ),
        },
        "/jobs/{id}/results": {
            "get": _operation(
                "The result of a job as a file.",
                {200: _files("Session"), 404: None, 409: None, 422: None},
                [*one, _FORMAT],
            )
        },
    }


def _other_paths() -> Json:
    health = _operation("Whether the server works.", {200: _json("Health")})
    html = _body("text/html", _TEXT)
    return {
        "/": {"get": _operation("The page.", {200: html})},
        "/docs": {"get": _operation("This description for people.", {200: html})},
        "/openapi.json": {
            "get": _operation(
                "This document.", {200: _body("application/json", {"type": "object"})}
            )
        },
        "/healthz": {"get": health | {"security": []}},
        "/metrics": {
            "get": _operation(
                "Figures in Prometheus's text format 0.0.4.",
                {200: _body("text/plain", _TEXT)},
            )
        },
    }


def _schemas(class_names: Sequence[str]) -> Json:
    label = {"type": "string", "enum": list(class_names)}
    segment = {"label": label, "frames": _PAIR, "time_s": _PAIR, "confidence": _NUMBER}
    truth = {name: segment[name] for name in ("label", "frames", "time_s")}
    latency = dict.fromkeys(("decode", "wait", "compute", "total"), _NUMBER)
    step = {
        "source": _COUNT,
        "frame": _COUNT,
        "time_s": _NUMBER,
        "label": label,
        "class": _COUNT,
        "confidence": _NUMBER,
        "scores": {"type": "array", "items": _NUMBER},
        "starts": {"type": "boolean"},
        "latency_ms": _object(latency),
    }
    source = {
        "source": _COUNT,
        "name": _TEXT,
        "state": {"enum": ["waiting", "live", "ended", "broken"]},
        "reason": _TEXT,
        "began": {"type": ["string", "null"], "format": "date-time"},
        "last": {"anyOf": [{"type": "null"}, _ref("Step")]},
        "counters": _ref("Counters"),
    }
    job = {
        "id": _TEXT,
        "name": _TEXT,
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "frame": _COUNT,
        "error": _TEXT,
    }
    found = {
        "segments": _list(_ref("Segment")),
        "truth": _list(_object(truth)),
        "truth_error": _TEXT,
        "metrics": _object(dict.fromkeys(SHOWN_METRICS, _NUMBER)),
    }
    past = {"label": label, "frame": _COUNT, "time_s": _NUMBER, "confidence": _NUMBER}
    counts = ("captured", "used", "dropped", "repeated", "gaps", "reconnects", "steps")
    figures = ("latency_ms", "latency_p95_ms", "fps", "silent_s")
    return {
        "Error": _object({"error": _TEXT}),
        "Segment": _object(segment),
        "Step": _object(step),
        "Counters": _object(
            dict.fromkeys(counts, _COUNT) | dict.fromkeys(figures, _NUMBER)
        ),
        "Source": _object(source),
        "Sources": _object(
            {
                "model": {"type": "object"},
                "classes": _list(_object({"name": label, "colour": _TEXT})),
                "max_upload_bytes": _COUNT,
                "sources": _list(_ref("Source")),
            }
        ),
        "Session": _object(
            {
                "name": _TEXT,
                "ended": {"type": "boolean"},
                "forgotten_segments": _COUNT,
                "num_steps": _COUNT,
                "segments": _list(_ref("Segment")),
                "steps": _list(_object(past)),
            }
        ),
        "Job": _object(job, found),
        "Health": _object({"status": {"const": "ok"}, "sources": _list(_TEXT)}),
    }


_FORMAT = {
    "name": "format",
    "in": "query",
    "description": "json; csv, a line for every segment; txt, the common layout: the "
    "class name of every frame.",
    "schema": {"enum": list(FORMATS), "default": "json"},
}
_REASONS = {
    404: "There is none.",
    408: "The upload stalled.",
    409: "There is no such result, or not any more.",
    413: "The upload is too large.",
    415: "The upload is no video.",
    422: "A parameter or the form is wrong.",
    426: "The request is no WebSocket.",
    503: "Too many clients or videos; try again later.",
}
_ALWAYS = {
    401: "The token is missing or wrong.",
    403: "The request comes from another site.",
    421: "The server does not answer to this host name.",
    431: "The headers are too large.",
    500: "A fault of the server.",
}


def _operation(
    text: str, answers: Mapping[int, Json | None], parameters: Sequence[Json] = ()
) -> Json:
    """Returns an operation; an answer of None is an error of that status."""
    found = {
        str(status): answer or _error(_REASONS[status])
        for status, answer in answers.items()
    }
    always = {str(status): _error(text) for status, text in _ALWAYS.items()}
    return {
        "summary": text.partition(". ")[0].partition(":")[0].rstrip("."),
        "description": text,
        "parameters": list(parameters),
        "responses": {**found, **always},
    }


def _error(text: str) -> Json:
    return {"description": text} | _content("application/json", _ref("Error"))


def _path_parameter(name: str, text: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
    }


def _json(name: str) -> Json:
    return _body("application/json", _ref(name))


def _files(name: str) -> Json:
    csv, txt = ({"text/csv": {"schema": _TEXT}}, {"text/plain": {"schema": _TEXT}})
    answer = _json(name)
    answer["content"] |= csv | txt
    return answer


def _body(kind: str, schema: Json) -> Json:
    return {"description": "It is there."} | _content(kind, schema)


def _content(kind: str, schema: Json) -> Json:
    return {"content": {kind: {"schema": schema}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _object(required: Json, optional: Json | None = None) -> Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
    }
