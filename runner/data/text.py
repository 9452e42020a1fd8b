"""Text for language modelling: the user's files, or the help topics that come with Python."""

from __future__ import annotations

import codecs
import hashlib
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from runner import rules
from runner.data.errors import DataError
from runner.data.parallel import hash_of, shown, unpacked
from runner.data.splits import SPLITS
from runner.data.tokens import KINDS, Tokens, is_kind, tokenizer_file, tokens_of
from runner.data.transfer import to_device
from runner.data.vocabulary import Size
from runner.files import sha256_of
from runner.parameters import checked, whole
from runner.seeding import derive_seed

log = logging.getLogger(__name__)

EVALUATION_TOKENS = 8192  # per batch
ALLOWED = "expected UTF-8 files, plain or gzipped, [a.txt,b.txt.gz]"

Names = str | Path | Sequence[str | Path]
Batch = tuple[Tensor, Tensor, Tensor]


def is_files(value: Any) -> str | None:
    """Rule for one or several file names; see `runner.rules`."""
    names = value if isinstance(value, list | tuple) else [value]
    return None if names and all(isinstance(one, str | Path) and str(one) for one in names) else "a file or files"


def files_or(rule: rules.Rule) -> rules.Rule:
    """Return a rule that accepts file names and whatever the given rule accepts."""
    return lambda value: (allowed := rule(value)) and is_files(value) and f"a file, files or {allowed}"


Part = Annotated[Any, files_or(rules.between(0, 1, open_end=True))]


class TextBatch(NamedTuple):
    """A batch of N windows of a split.

    Attributes:
        inputs: (N, T) int64.
        targets: (N, T), the token after each input.
        sizes: (N, T), the number of bytes in each target.
        decode: a function that converts ids to text.
    """

    inputs: Tensor
    targets: Tensor
    sizes: Tensor
    decode: Any


class Windows:
    """Training batches as a function of the step: windows of `context` tokens that do not overlap within an epoch.

    Each epoch has its own window offset and order.
    """

    def __init__(self, ids: Tensor, sizes: Tensor, context: int, batch_size: int, seed: int) -> None:
        self._ids, self._sizes, self._context, self._seed = ids, sizes, context, seed
        # The last input needs a target after it, and there is one window fewer so that the offset can vary.
        self._count = max(1, (len(ids) - 1) // context - 1)
        self._rows = min(whole("batch_size", batch_size, of="windows"), self._count)
        self.examples_per_step = self._rows * context
        self.steps_per_epoch = self._count // self._rows

    def batch(self, step: int) -> Batch:
        """Return the batch of a step >= 0: inputs, targets and the targets' sizes in bytes, each (N, T)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "windows", epoch))
        first = torch.randint(len(self._ids) - self._count * self._context, (), generator=generator)
        order = torch.randperm(self._count, generator=generator)
        starts = first + order[place * self._rows :][: self._rows] * self._context
        return windows(self._ids, self._sizes, starts, self._context)


def windows(ids: Tensor, sizes: Tensor, starts: Tensor, length: int) -> Batch:
    """Return the windows that begin at `starts` (N,): inputs, targets and targets' sizes in bytes, each (N, length)."""
    found = ids[to_device(starts[:, None] + torch.arange(length + 1), ids.device)].long()
    return found[:, :-1], found[:, 1:], sizes[found[:, 1:]]


class Text:
    """In-memory text on one device, as token ids.

    A split is evaluated in non-overlapping windows, each without the text before it. Every token of a split except the
    first is predicted once.

    Args:
        train: UTF-8 files, plain or gzipped, which are concatenated. None means the topics of Python's help(), about
            0.5 MB of English.
        validation, test: files, or a fraction of the characters in `train`. The end of the text is used for testing and
            the part before it for validation.
        root: folder with the files. None means the current folder.
        tokens: "characters", "bytes", "subwords" (learned from the training text), or a folder with a tokenizer.json.
        vocabulary: maximum number of subwords.
        context: number of tokens per window.

    Raises:
        DataError: a file is missing, damaged or not UTF-8, or there is too little text.
        ConfigError: subwords or a stored tokenizer are requested, but tokenizers is not installed.
    """

    kind: ClassVar[str] = "text"

    @checked
    def __init__(
        self,
        train: Annotated[Any, rules.either(None, is_files)] = None,
        validation: Part = 0.1,
        test: Part = 0.1,
        root: str | None = None,
        tokens: Annotated[str, is_kind] = "characters",
        vocabulary: Size = 2000,
        context: Annotated[int, rules.whole(2)] = 128,
    ) -> None:
        texts = _split(_text("train", train, root), validation, test, root)
        if not texts["train"]:
            raise DataError("the training text is empty", "train", shown(train))
        self.context = context
        self.tokens: Tokens = tokens_of(tokens, texts["train"], vocabulary)
        self._ids = {split: self.tokens.encode(text) for split, text in texts.items()}
        self._sizes = self.tokens.sizes
        self.splits: Sequence[str] = tuple(self._ids)
        self._check(train, {"validation": validation, "test": test})
        self._check_bytes(texts)

    @staticmethod
    def fingerprint(
        train: Any = None,
        validation: Any = 0.1,
        test: Any = 0.1,
        root: str | None = None,
        tokens: str = "characters",
        **_: object,
    ) -> str:
        """Return a hash of the contents of the text files or Python's help topics, and of a tokenizer folder's file."""
        named = {"train": train, "validation": validation, "test": test}
        hashes = {
            split: [_in_file(split, names, path, hash_of) for path in _paths(names, root)]
            for split, names in named.items()
            if is_files(names) is None
        }
        own = [] if "train" in hashes else [hashlib.sha256(_topics().encode()).hexdigest()]
        own += [] if tokens in KINDS else ["tokens", sha256_of(tokenizer_file(tokens))]
        return hashlib.sha256(repr([hashes, *own]).encode()).hexdigest()

    @staticmethod
    def named_contents(part: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of options, apart from the splits, whose files are identified by their content.

        This is `tokens` if it is a tokenizer folder; otherwise there are none.
        """
        return () if part.get("tokens", "characters") in KINDS else ("tokens",)

    def to(self, device: torch.device | str) -> Self:
        """Move all splits to a device, in place."""
        self._ids = {split: ids.to(device) for split, ids in self._ids.items()}
        self._sizes = self._sizes.to(device)
        return self

    def sizes(self) -> dict[str, int]:
        """Return the number of windows in each split. The last window of a split may be shorter than the others."""
        return {split: len(self._starts(split)) for split in self.splits}

    def model_arguments(self) -> dict[str, int]:
        """Return the model arguments that depend on the data.

        These are `vocabulary`, the number of ids, and `context`, the maximum input length.
        """
        return {"vocabulary": len(self.tokens.sizes), "context": self.context}

    def train_batches(self, batch_size: int, seed: int) -> Windows:
        """Return an endless sequence of training batches of `batch_size` windows, in an order determined by `seed`."""
        return Windows(self._ids["train"], self._sizes, self.context, batch_size, seed)

    def eval_batches(self, split: str, limit: int | None = None) -> Iterator[TextBatch]:
        """Yield batches of the first `limit` windows of a split (all if None), in order.

        A shorter last window is a separate batch. Raises a ValueError if the split is empty.
        """
        if split not in self.splits:
            raise ValueError(f"split {split!r} holds no text; those that do: {', '.join(self.splits)}")
        ids, starts = self._ids[split], self._starts(split)[:limit]
        whole_ones = starts[starts + self.context < len(ids)]
        for part in whole_ones.split(max(1, EVALUATION_TOKENS // self.context)) if len(whole_ones) else ():
            yield TextBatch(*windows(ids, self._sizes, part, self.context), self.tokens.decode)
        for start in starts[len(whole_ones) :]:
            rest = len(ids) - 1 - int(start)
            yield TextBatch(*windows(ids, self._sizes, start[None], rest), self.tokens.decode)

    def augmented_batches(self, limit: int, seed: int) -> Iterator[Batch]:
        """Yield batches with up to `limit` windows, evenly spaced over the training split. The seed is not used."""
        ids = self._ids["train"]
        starts = torch.arange(0, len(ids) - self.context, self.context)
        chosen = starts[torch.arange(min(limit, len(starts))) * len(starts) // min(limit, len(starts))]
        for part in chosen.split(max(1, EVALUATION_TOKENS // self.context)):
            yield windows(ids, self._sizes, part, self.context)

    def _starts(self, split: str) -> Tensor:
        return torch.arange(0, len(self._ids[split]) - 1, self.context)

    def _unknown(self, split: str) -> int:
        return 0 if self.tokens.unknown is None else int((self._ids[split] == self.tokens.unknown).sum())

    def _check_bytes(self, texts: dict[str, str]) -> None:
        """Warn if the bytes of the tokens and of the text differ by more than 1 %: a tokenizer may change the text."""
        for split, text in texts.items():
            expected, found = len(text.encode()), int(self._sizes[self._ids[split].long()].sum())
            if abs(found - expected) > 0.01 * expected and not self._unknown(split):
                log.warning(
                    "data.%s: bits per byte refer to the %d bytes of its tokens, but the text has %d",
                    split,
                    found,
                    expected,
                )

    def _check(self, train: Any, parts: dict[str, Any]) -> None:
        count = len(self._ids["train"])
        if count < self.context + 1:
            problem = f"{count} tokens to train on are too few for data.context={self.context}"
            raise DataError(f"{problem}; expected at least {self.context + 1}", "train", shown(train))
        for split, value in parts.items():
            if split in self._ids and len(self._ids[split]) < 2:
                raise DataError("fewer than two tokens", split, shown(value))
            if split in self._ids and (unknown := self._unknown(split)):
                log.warning("data.%s: %d characters are not in the vocabulary", split, unknown)


def _split(text: str, validation: Any, test: Any, root: str | None) -> dict[str, str]:
    """Return the text of each split, without splits whose fraction is 0."""
    found = {}
    rest = len(text)
    for split, value in (("test", test), ("validation", validation)):
        if is_files(value) is None:
            found[split] = _text(split, value, root)
        elif value:
            first = max(0, rest - max(1, round(value * len(text))))
            found[split] = text[first:rest]
            rest = first
    return {split: part for split in SPLITS if (part := {"train": text[:rest], **found}.get(split)) is not None}


def _text(split: str, names: Any, root: str | None) -> str:
    """Return the concatenated contents of files, or Python's help topics if `names` is None.

    Raises:
        DataError: a file cannot be read. The message names the parameter.
    """
    if names is None:
        return _topics()
    return "".join(_in_file(split, names, path, _read) for path in _paths(names, root))


def _paths(names: Names, root: str | None) -> list[Path]:
    given = [names] if isinstance(names, str | Path) else names
    return [Path(root or "").expanduser() / Path(name).expanduser() for name in given]


def _in_file(split: str, names: Names, path: Path, read: Any) -> str:
    try:
        found: str = read(path)
    except DataError as error:
        raise DataError(f"{error}; {ALLOWED}", split, shown(names)) from error
    return found


def _read(path: Path) -> str:
    with unpacked(path) as file:
        content = file.read().removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason})") from error


def _topics() -> str:
    """Return the topics of Python's help(), about 0.5 MB of text. They depend on the Python version."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataError(f"this Python comes without pydoc_data; {ALLOWED}", "train", "null") from error
    return "\n\n".join(text for _, text in sorted(topics.items()))
