"""The faults by name, each with a sentence of what it does. Pure."""

from twinmail.chaos.cloud_faults import RULES
from twinmail.errors import PermanentError

_SERVERS = ("primary", "backup")
_VOLUME = "backup"

_FUNCTION = {
    "function-killed": "the process of the function is killed in the middle of its work",
    "function-timed-out": "the function is ended by its time limit in the middle of its work",
    "function-out-of-memory": "the function is ended by its memory limit in the middle of its work",
    "function-cold": "every call of the function begins in a new process",
    "function-throttled": "Lambda refuses to call the function, and tries again later",
}
_TOLD = {
    "events": "what SES tells the function",
    "arrivals": "what SES tells the queue of arrivals",
    "announcements": "what S3 tells the servers of new entries",
}
_HOW = {
    "dropped": "is lost",
    "duplicated": "comes twice",
    "delayed": "comes late",
    "reordered": "comes in another order",
}
_EFFECTS = {
    "500": "answers 500, and has done nothing",
    "503": "answers 503, and has done nothing",
    "slow": "answers two seconds late",
    "reset": "resets the connection, and has done nothing",
    "answer-lost": "does what it is asked, and resets the connection",
    "answer-500": "does what it is asked, and answers 500",
    "truncated": "sends half of its answer",
}
_OF_A_SERVER = {
    "syncer-killed": "the syncer is killed, and started again",
    "dovecot-killed": "Dovecot is killed, and started again",
    "queue-purged": "everything that waits in the server's queue is deleted",
    "ledger-deleted": "the syncer is killed, and its ledger is deleted",
    "ledger-corrupted": "the syncer is killed, and its ledger is overwritten in many places",
    "clock-ahead": "the syncer's clock is stepped an hour ahead, and back",
    "clock-behind": "the syncer's clock is stepped an hour back, and forth",
    "volume-slow": "each durable write of the syncer takes 0.3 s longer",
    "network-cut": "the syncer's connections are reset, and none is made",
    "network-silent": "the syncer's connections stay open, and nothing comes through",
}

SENTENCES: dict[str, str] = {
    **_FUNCTION,
    **{f"{what}-{how}": f"{told} {text}" for what, told in _TOLD.items() for how, text in _HOW.items()},
    **{
        f"{service}-{effect}": f"{name} {text}, now and then"
        for service, name in (("s3", "S3"), ("sqs", "SQS"), ("sns", "SNS"), ("dynamodb", "DynamoDB"))
        for effect, text in _EFFECTS.items()
    },
    "manifest-late": "the function's entry in the log comes eight seconds late, and others overtake it",
    "edge-killed": "the receiving SMTP server is killed, and started again",
    "localstack-restarted": "the whole cloud is ended, and started again",
    **{f"{what}-{server}": text for what, text in _OF_A_SERVER.items() for server in _SERVERS},
    f"volume-full-{_VOLUME}": "the file system of the Maildirs has no octet left",
    f"volume-read-only-{_VOLUME}": "the file system of the Maildirs cannot be written",
}
"""What each fault does, by its name."""

NAMES = tuple(SENTENCES)


class UnknownFault(PermanentError):
    """There is no fault of that name."""


def names_of(asked: str) -> tuple[str, ...]:
    """The faults that *asked* means: ``all``, ``none``, or names and beginnings of names with commas.

    Raises:
        UnknownFault: a word is the beginning of none.
    """
    words = {"all": [""], "none": []}.get(asked, [one.strip() for one in asked.split(",")])
    chosen: set[str] = set()
    for word in words:
        found = [one for one in NAMES if one.startswith(word)]
        if not found or (not word and asked != "all"):
            raise UnknownFault(f"--faults: no fault {word!r}; known: {', '.join(NAMES)}")
        chosen.update([word] if word in found else found)
    return tuple(sorted(chosen))


assert {one.name for one in RULES} <= SENTENCES.keys()
