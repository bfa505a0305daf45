"""From options to a request: pure, and refused in the words of the command line."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from events.requests import InvalidRequest, SubmitJob, decode_request

Payload: TypeAlias = dict[str, Any]

OPTION_PATHS = {
    "scenario": "scenario",
    "codec": "parameters.video.codec",
    "encoder": "parameters.video.encoder",
    "width": "parameters.video.width",
    "height": "parameters.video.height",
    "rate": "parameters.video.rate",
    "bitrate": "parameters.video.bitrate_bps",
    "crf": "parameters.video.crf",
    "preset": "parameters.video.preset",
    "audio_codec": "parameters.audio.codec",
    "audio_bitrate": "parameters.audio.bitrate_bps",
    "container": "parameters.container",
    "duration": "parameters.duration_s",
    "input": "input",
    "outputs": "outputs",
    "engine": "engine",
    "queue": "queue",
    "priority": "priority",
    "tenant": "tenant",
    "labels": "labels",
    "requires": "requires",
    "timeout": "timeout_s",
    "attempts_max": "attempts_max",
    "depends_on": "depends_on",
    "not_before": "not_before",
    "deadline": "deadline",
    "job_id": "job_id",
    "idempotency_key": "idempotency_key",
}
"""Where each option's value goes in the request."""
_SAID_AS = {
    "width": "--size",
    "height": "--size",
    "audio_codec": "--audio",
    "audio_bitrate": "--audio",
    "outputs": "--output-file",
    "labels": "--label",
    "job_id": "--id",
    "scenario": "SCENARIO",
}
_VIDEO_KEYS = ("codec", "encoder", "size", "rate", "bitrate", "crf", "preset")
_SCALES = {"": 1, "k": 1_000, "M": 1_000_000}
NUMBER_MAX = 10**12
"""Beyond what any option means, and within what JSON carries exactly."""
_number = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)([kM]?)").fullmatch
_size = re.compile(r"(\d{1,9})x(\d{1,9})").fullmatch


class WrongOption(ValueError):
    """An option that cannot be part of a request; the message names it."""


def payload_of(options: Mapping[str, object]) -> Payload:
    """Return the request that the options ask for; options that are None or empty are left out.

    Raises WrongOption for a value that has no meaning.
    """
    flat = dict(_flattened(options))
    payload: Payload = {}
    for name, path in OPTION_PATHS.items():
        value = flat.get(name)
        if value is None or value in ((), {}):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongOption(f"{_said_as(name)}: given: {value}; allowed: a finite number")
        if isinstance(value, int) and abs(value) > NUMBER_MAX:
            allowed = f"a whole number up to {NUMBER_MAX}"
            raise WrongOption(f"{_said_as(name)}: given: {value}; allowed: {allowed}")
        *parents, leaf = path.split(".")
        place = payload
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return payload


def checked(payload: Payload) -> SubmitJob:
    """Return the request as the service would read it. Raises WrongOption naming the option."""
    try:
        return decode_request(SubmitJob, msgspec.json.encode(payload))
    except InvalidRequest as invalid:
        field = invalid.field.removeprefix("$").removeprefix(".")
        option = _option_of(field)
        words = invalid.message.removeprefix(f"{invalid.field}: ")
        raise WrongOption(f"{option}: {words}" if option else invalid.message) from None


def numbered(payload: Payload, number: int) -> Payload:
    """Return the request for one of many: its id and idempotency key get the number."""
    copy = dict(payload)
    for name in ("job_id", "idempotency_key"):
        if name in copy:
            copy[name] = f"{copy[name]}-{number}"
    return copy


def bits_per_second(text: str, option: str) -> int:
    """Read `2500k`, `4M` or plain bits. Raises WrongOption."""
    found = _number(text)
    if found is None:
        raise WrongOption(f"{option}: given: {text!r}; allowed: a number, as 2500k or 4M")
    return round(float(found[1]) * _SCALES[found[2]])


def pixels(text: str, option: str) -> tuple[int, int]:
    """Read `1280x720`. Raises WrongOption."""
    found = _size(text)
    if found is None:
        raise WrongOption(f"{option}: given: {text!r}; allowed: WIDTHxHEIGHT, as 1280x720")
    return int(found[1]), int(found[2])


def _flattened(options: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Take combined options apart: `--size`, `--audio`, `--label`, `--output-file`, `--input`."""
    for name, value in options.items():
        if value is None:
            continue
        match name:
            case "size":
                yield from zip(("width", "height"), pixels(str(value), "--size"), strict=True)
            case "bitrate":
                yield name, bits_per_second(str(value), "--bitrate")
            case "audio":
                yield from _audio(str(value))
            case "input":
                yield name, _input(str(value))
            case "labels":
                yield name, dict(_pair(label, "--label") for label in _texts(value))
            case "output_files":
                base = _video(options)
                yield "outputs", [_output(text, base) for text in _texts(value)]
            case _:
                yield name, value


def _texts(value: object) -> Sequence[str]:
    assert isinstance(value, tuple | list)
    return [str(item) for item in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - click gives text


def _audio(text: str) -> Iterator[tuple[str, object]]:
    codec, colon, rate = text.partition(":")
    yield "audio_codec", codec
    if colon:
        yield "audio_bitrate", bits_per_second(rate, "--audio")


def _input(text: str) -> object:
    """Return a path or URL as it is, and a test source given as a JSON object."""
    if not text.startswith("{"):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise WrongOption(f"--input: no JSON: {error}; given: {text!r}") from None


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise WrongOption(f"{option}: given: {text!r}; allowed: KEY=VALUE")
    return key, value


def _video(options: Mapping[str, object]) -> Payload:
    """Return what the options say of the video, as the base of each output's own."""
    video: Payload = {}
    for key in _VIDEO_KEYS:
        if options.get(key) is not None:
            _set_video(video, key, str(options[key]), f"--{key}")
    return video


def _output(text: str, base: Payload) -> Payload:
    """Read `PATH[,key=value…]`; what is not said is as for the whole job."""
    path, *parts = text.split(",")
    output: Payload = {"path": path}
    video: Payload = {}
    for part in parts:
        key, value = _pair(part, "--output-file")
        if key == "audio":
            named = dict(_audio(value))
            output["audio"] = {"codec": named["audio_codec"]}
            if "audio_bitrate" in named:
                output["audio"]["bitrate_bps"] = named["audio_bitrate"]
        elif key == "container":
            output["container"] = value
        else:
            _set_video(video, key, value, "--output-file")
    if video:
        output["video"] = {**base, **video}
    return output


def _set_video(video: Payload, key: str, text: str, option: str) -> None:
    match key:
        case "size":
            video["width"], video["height"] = pixels(text, option)
        case "bitrate":
            video["bitrate_bps"] = bits_per_second(text, option)
        case "crf":
            video["crf"] = _numeric(text, option, int)
        case "rate":
            video["rate"] = _numeric(text, option, float)
        case "codec" | "encoder" | "preset":
            video[key] = text
        case _:
            allowed = ", ".join((*_VIDEO_KEYS, "audio", "container"))
            raise WrongOption(f"{option}: given: {key}=…; allowed: {allowed}")


def _numeric(text: str, option: str, kind: type[int] | type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > NUMBER_MAX:
        raise WrongOption(f"{option}: given: {text!r}; allowed: a number")
    return number


def _option_of(field: str) -> str:
    """Return the option that fills a field of the request; empty: none does alone."""
    for name, path in OPTION_PATHS.items():
        if field == path or field.startswith((f"{path}.", f"{path}[")):
            return _said_as(name)
    return ""


def _said_as(name: str) -> str:
    return _SAID_AS.get(name, "--" + name.replace("_", "-"))
