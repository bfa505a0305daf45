"""What kind of failure a run of ffmpeg was, from its last words and its exit status.

Words first: exit statuses collide (187 is both end of file and any error of a library, 255 both
"stopped by a signal" and "operation not permitted", 8 everything not found) and versions before 6
exit with 1 for all. The tables are in order of telling power, the first rule that matches a line
wins.

Source: measured on ffmpeg 5.1 and 9.0; ffmpeg 9 exits with the low byte of its AVERROR, which is
256 - errno for system errors (`libavutil/error.h`, `fftools/ffmpeg.c`).
"""

import re
import signal
from collections.abc import Sequence

from msgspec import Struct

from events.job import FailureClass

MESSAGE_CHARS_MAX = 500


class Verdict(Struct, frozen=True):
    """What kind of failure it was, and the line that tells."""

    failure: FailureClass
    message: str


_RULES: tuple[tuple[re.Pattern[str], FailureClass], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), failure)
    for pattern, failure in (
        # this node: another one may do
        (r"No space left on device|Disk quota exceeded|File too large", FailureClass.RESOURCE),
        (r"Cannot allocate memory|malloc of size|Out of memory", FailureClass.RESOURCE),
        (r"OpenEncodeSessionEx failed|out of memory \(10\)", FailureClass.RESOURCE),
        (r"pthread_create\(\) failed|Too many open files", FailureClass.RESOURCE),
        (r"Resource temporarily unavailable|No child processes", FailureClass.RESOURCE),
        (r"CUDA_ERROR_|cuInit\(0\) failed|GPU (?:is lost|has fallen off)", FailureClass.RESOURCE),
        (r"EncodePicture failed|Create(?:Input|Bitstream)Buffer failed", FailureClass.RESOURCE),
        (r"(?:device does not exist|no encode device) \(\d+\)", FailureClass.RESOURCE),
        (r"device (?:lost|failed) \(-\d+\)|VK_ERROR_DEVICE_LOST", FailureClass.RESOURCE),
        (r"unsupported \(-3\)", FailureClass.RESOURCE),
        (r"Read-only file system|Permission denied", FailureClass.RESOURCE),
        (r"Unknown encoder|Cannot load lib|No VA display found", FailureClass.RESOURCE),
        (r"Error creating a MFX session|Device creation failed", FailureClass.RESOURCE),
        (r"No capable devices found|minimum required Nvidia driver", FailureClass.RESOURCE),
        (r"No such filter|Unknown decoder|Decoder .* not found", FailureClass.RESOURCE),
        (r"Error opening output.*No such file or directory", FailureClass.RESOURCE),
        (r"\[out#\d.*No such file or directory", FailureClass.RESOURCE),
        # the other end of a network: the same again may work
        (r"Connection (?:refused|reset|timed out)|connection abort", FailureClass.TRANSIENT),
        (r"Operation timed out|Broken pipe", FailureClass.TRANSIENT),
        (r"Failed to resolve hostname|Network is (?:unreachable|down)", FailureClass.TRANSIENT),
        (r"No route to host|Host is (?:unreachable|down)", FailureClass.TRANSIENT),
        (r"Cannot read RTMP handshake|Stream ends prematurely", FailureClass.TRANSIENT),
        (r"(?:HTTP error|Server returned) (?:408|425|429|5\d\d|5XX)", FailureClass.TRANSIENT),
        (r"(?:HTTP error|Server returned) 4(?:\d\d|XX)", FailureClass.PERMANENT),
        (r"certificate verify failed|Already publishing", FailureClass.PERMANENT),
        (r"Error opening output.* rtmps?://.*Input/output error", FailureClass.PERMANENT),
        # the input
        (r"moov atom not found|File ended prematurely|partial file", FailureClass.PERMANENT),
        (r"corrupt input packet|corrupt decoded frame", FailureClass.PERMANENT),
        (r"Decode error rate .* exceeds", FailureClass.PERMANENT),
        (r"Is a directory", FailureClass.PERMANENT),
        (r"Error opening input.*No such file or directory", FailureClass.PERMANENT),
        (r"not on whitelist|not in whitelist", FailureClass.PERMANENT),
        # the request
        (r"Unrecognized option|Option not found|Unable to parse", FailureClass.PERMANENT),
        (r"Error (?:setting|applying) (?:preset|option)", FailureClass.PERMANENT),
        (r"(?:width|height) not divisible by", FailureClass.PERMANENT),
        (r"Unable to (?:find|choose) a suitable output format", FailureClass.PERMANENT),
        (r"matches no streams|does not contain any stream", FailureClass.PERMANENT),
        (r"not compatible with|not currently supported in container", FailureClass.PERMANENT),
        (r"maybe incorrect parameters|Invalid argument", FailureClass.PERMANENT),
        (r"Invalid data found when processing input", FailureClass.PERMANENT),
    )
)

_STATUSES: dict[int, tuple[FailureClass, str]] = {
    8: (FailureClass.PERMANENT, "an encoder, filter or option was not found"),
    69: (FailureClass.PERMANENT, "the input is corrupt"),
    123: (FailureClass.TRANSIENT, "ffmpeg was stopped hard by signals"),
    126: (FailureClass.INFRASTRUCTURE, "ffmpeg cannot be executed"),
    127: (FailureClass.INFRASTRUCTURE, "ffmpeg is not there"),
    145: (FailureClass.TRANSIENT, "connection refused"),
    146: (FailureClass.TRANSIENT, "connection timed out"),
    152: (FailureClass.TRANSIENT, "connection reset"),
    183: (FailureClass.PERMANENT, "invalid data in the input"),
    224: (FailureClass.TRANSIENT, "broken pipe"),
    228: (FailureClass.RESOURCE, "no space left on device"),
    234: (FailureClass.PERMANENT, "invalid argument"),
    235: (FailureClass.PERMANENT, "a directory was given as a file"),
    243: (FailureClass.RESOURCE, "permission denied"),
    244: (FailureClass.RESOURCE, "out of memory"),
    245: (FailureClass.RESOURCE, "a resource is temporarily unavailable"),
    251: (FailureClass.TRANSIENT, "input/output error"),
    254: (FailureClass.PERMANENT, "no such file or directory"),
    255: (FailureClass.TRANSIENT, "stopped by a signal, or not permitted"),
}
_SIGNALS: dict[int, tuple[FailureClass, str]] = {
    signal.SIGKILL: (FailureClass.RESOURCE, "by hand, or for want of memory"),
    signal.SIGXCPU: (FailureClass.RESOURCE, "CPU time limit"),
    signal.SIGXFSZ: (FailureClass.RESOURCE, "file size limit"),
    signal.SIGILL: (FailureClass.RESOURCE, "this CPU lacks an instruction"),
    signal.SIGSYS: (FailureClass.INFRASTRUCTURE, "a system call is forbidden here"),
}
_UNKNOWN = (FailureClass.TRANSIENT, "not seen before")
"""What nobody knows is tried again; a job's attempts are limited."""

_PREMATURE = re.compile(r"File ended prematurely|partial file|Stream ends prematurely")
_address = re.compile(r" @ 0x[0-9a-f]+")
_level = re.compile(r"\[(?:error|fatal|panic|warning)\] ")
_severe = re.compile(r"\[(?:error|fatal|panic)\]")


def classify(exit_status: int, lines: Sequence[str]) -> Verdict:
    """Return what kind of failure `exit_status` (negative: the signal) with these lines is.

    A process that a signal ended never had its last word: then the lines do not count, save those
    about the node's resources.
    """
    for pattern, failure in _RULES:
        if exit_status < 0 and failure is not FailureClass.RESOURCE:
            continue
        line = next((line for line in lines if pattern.search(line)), None)
        if line is not None:
            return Verdict(failure, clean(line))
    if exit_status < 0:
        return _killed(-exit_status)
    failure, meaning = _STATUSES.get(exit_status, _UNKNOWN)
    severe = [line for line in lines if _severe.search(line)]
    words = clean((severe or list(lines) or [""])[-1])
    message = f"exit status {exit_status}: {meaning}"
    return Verdict(failure, f"{message}; {words}"[:MESSAGE_CHARS_MAX] if words else message)


def premature_end(lines: Sequence[str]) -> str | None:
    """Return the line that says the input ended before its end; ffmpeg may exit with 0 then."""
    return next((clean(line) for line in lines if _PREMATURE.search(line)), None)


def clean(line: str) -> str:
    """Return a line without the addresses and levels that differ from run to run."""
    return _level.sub("", _address.sub("", line)).strip()[:MESSAGE_CHARS_MAX]


def _killed(number: int) -> Verdict:
    failure, meaning = _SIGNALS.get(number, (FailureClass.TRANSIENT, "not by this worker"))
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return Verdict(failure, f"ended by {name}: {meaning}")
