"""Supervised fine-tuning of a decoder's adapters on prompts and answers, and saving the result as a model to load.

    examples = [training_example(template, messages, answer, config.eos_token_ids) for messages, answer in pairs]
    lora = LoRA(model, LoRAOptions(rank=8))
    fine_tune(lora, examples, FineTuningOptions(epochs=3), checkpoint=folder)
    lora.merge()
    save_for_reading(model, base_path, out)             # longleaf ask FILE "…" --model OUT

The loss is the cross entropy of the answer's tokens and of the one that ends it; what was asked is read, not learned.
AdamW: Loshchilov and Hutter 2017, arXiv:1711.05101. The rate climbs for `warmup_steps` and then falls to zero in a
straight line.

A run is stopped and taken up again between steps: adapters, the optimiser's moments and the number of steps are one
safetensors file. Which examples a step sees and what dropout hides follow from the seed and the step's number alone, so
a run that was stopped comes to the same numbers as one that was not.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from longleaf.errors import ModelError

from .chat_template import ChatTemplate
from .decoder_engine import load_chat_template
from .gguf_file import GGUFFile
from .gguf_tokenizer import plain_ids
from .lora import LoRA
from .training import TrainableDecoder

__all__ = [
    "Example",
    "FineTuningOptions",
    "StepRecord",
    "fine_tune",
    "save_for_reading",
    "training_example",
    "write_tokenizer",
]

logger = logging.getLogger(__name__)

_CHECKPOINT = "fine_tuning.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter; its step is counted on the CPU
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True)
class Example:
    """A prompt with the answer wanted.

    Attributes:
        token_ids: Prompt and answer, with the token that ends it.
        n_prompt: How many of them are the prompt's: they are read, and not learned.
    """

    token_ids: tuple[int, ...]
    n_prompt: int

    def __post_init__(self) -> None:
        if not 0 < self.n_prompt < len(self.token_ids):
            raise ValueError(f"{self.n_prompt} prompt tokens of {len(self.token_ids)}: both parts need at least one")


@dataclass(frozen=True)
class FineTuningOptions:
    """How the adapters are trained.

    Attributes:
        epochs: How often each example is seen.
        learning_rate: The highest that it gets.
        batch_size: Examples of a step.
        examples_at_once: Of these, how many go through the model together; gradients of the rest are added up. The same
            result in less memory, and with fewer padded tokens.
        warmup_steps: Steps in which the rate climbs to `learning_rate`.
        weight_decay: AdamW's.
        max_grad_norm: Longer gradients are shortened to this.
        seed: Of the examples' order and of dropout.
        checkpoint_steps: Steps between two checkpoints, if there is a folder for them.
    """

    epochs: int = 3
    learning_rate: float = 2e-4
    batch_size: int = 8
    examples_at_once: int = 1
    warmup_steps: int = 5
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    checkpoint_steps: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "examples_at_once", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)}")

    def steps(self, n_examples: int) -> int:
        """All steps over so many examples; an epoch's last step may have fewer."""
        return self.epochs * math.ceil(n_examples / self.batch_size)

    def rate(self, step: int, n_steps: int) -> float:
        """The learning rate of a step, counted from 0: up to the full one, then down towards 0."""
        climb = (step + 1) / (self.warmup_steps + 1)
        fall = (n_steps - step) / max(1, n_steps - self.warmup_steps)
        return self.learning_rate * min(climb, fall, 1.0)


@dataclass(frozen=True)
class StepRecord:
    """What one step came to.

    Attributes:
        step: From 1.
        n_steps: Of the whole run.
        loss: Mean cross entropy of the step's answer tokens, in nats, before its update.
        grad_norm: Before it is shortened.
        learning_rate: Of this step.
        seconds: It took.
    """

    step: int
    n_steps: int
    loss: float
    grad_norm: float
    learning_rate: float
    seconds: float


def training_example(
    template: ChatTemplate, messages: Sequence[Mapping[str, Any]], answer: str, eos_token_ids: Sequence[int]
) -> Example:
    """The tokens of a conversation and of the reply that is wanted, as the engine would have written it.

    Args:
        template: The model's.
        messages: Up to the one that is replied to.
        answer: The reply.
        eos_token_ids: The config's: the reply ends with the one that the template closes a reply with.

    Raises:
        ValueError: The template does not take these messages, or no token ends an answer.
    """
    if not eos_token_ids:
        raise ValueError("the model's config names no token that ends an answer (eos_token_id)")
    prompt = template.prompt(messages).token_ids
    replied = template.prompt([*messages, {"role": "assistant", "content": answer}]).token_ids
    after = replied[len(prompt) :] if replied[: len(prompt)] == prompt else []
    end = next((i for i, token in enumerate(after) if token in eos_token_ids), None)
    # A template may write earlier replies in another way, say without their reasoning.
    reply = [*plain_ids(template.tokenizer, answer), eos_token_ids[0]] if end is None else after[: end + 1]
    return Example((*prompt, *reply), len(prompt))


def fine_tune(
    lora: LoRA,
    examples: Sequence[Example],
    options: FineTuningOptions | None = None,
    *,
    checkpoint: Path | None = None,
    on_step: Callable[[StepRecord], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[StepRecord]:
    """Train a model's adapters; the rest of it stays as it is.

    Args:
        lora: The adapters, in a model whose forward takes (B, L) token ids and gives (B, L, vocab_size) logits. Less
            memory for half as much time again: `TrainableDecoder.checkpoint_layers`.
        examples: Each is seen `options.epochs` times.
        options: See `FineTuningOptions`.
        checkpoint: Folder for the run's state. A state that is there is taken up, and is deleted when the run is done.
        on_step: Told of each step.
        should_stop: Asked before each step; True ends the run there, with its state kept if there is a folder for it.

    Returns:
        All steps of the run, those before it was taken up again included.

    Raises:
        ValueError: No examples, or an odd choice of options.
        ModelError: The state in `checkpoint` belongs to another run, or the loss is no longer a number.
    """
    options = options or FineTuningOptions()
    if not examples:
        raise ValueError("there are no examples to train on")
    model, n_steps = lora.model, options.steps(len(examples))
    optimizer = torch.optim.AdamW(lora.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    run = _Run(lora, optimizer, _about(lora, examples, options), checkpoint)
    records = run.take_up()
    optimizer.zero_grad(set_to_none=True)  # of whatever the caller did before
    was_training = model.training
    model.train()
    try:
        for step in range(len(records), n_steps):
            if should_stop is not None and should_stop():
                run.keep(records)
                break
            begun = time.perf_counter()
            rate = options.rate(step, n_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.random.fork_rng(devices=[]):  # dropout of this step, without touching the caller's numbers
                torch.manual_seed(options.seed * 1_000_003 + step)
                loss = _accumulate(model, _batch(examples, step, options), options.examples_at_once)
            norm = float(nn.utils.clip_grad_norm_(lora.parameters(), options.max_grad_norm))
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise ModelError(
                    f"step {step + 1}: the loss is {loss} and its gradient {norm}; lower the learning rate"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            records.append(StepRecord(step + 1, n_steps, loss, norm, rate, time.perf_counter() - begun))
            if on_step is not None:
                on_step(records[-1])
            if len(records) % options.checkpoint_steps == 0 and len(records) < n_steps:
                run.keep(records)
    finally:
        model.train(was_training)
    if len(records) == n_steps:
        run.forget()
    return records


def save_for_reading(model: TrainableDecoder, base: Path, folder: Path) -> None:
    """Save a model whose adapters are merged as a folder that `--model FOLDER` takes.

    Args:
        model: Plain again.
        base: Where it came from, a folder or a .gguf file: tokenizer and chat template are that one's.
        folder: Made if it is not there.

    Raises:
        ModelError: The adapters are not merged yet.
    """
    if any(".lora_" in name for name, _ in model.named_parameters()):
        raise ModelError("the model has adapters; merge() them before it is saved")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    write_tokenizer(base, folder)


def write_tokenizer(base: Path, folder: Path) -> None:
    """Give a model's folder the tokenizer and chat template of another folder, or those inside a GGUF file.

    Raises:
        ModelError: It has none, or none that can be read.
    """
    if base.is_dir():
        load_chat_template(base)  # an error now rather than when it is asked
        for name in _TOKENIZER_FILES:
            if (base / name).exists():
                shutil.copyfile(base / name, folder / name)
        return
    template = load_chat_template(base)
    metadata = GGUFFile(base).metadata
    template.tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name in ("bos", "eos"):
        token_id = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if token_id is not None:
            config[f"{name}_token"] = template.tokenizer.id_to_token(int(token_id))
    if source := metadata.get("tokenizer.chat_template"):
        config["chat_template"] = source
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _batch(examples: Sequence[Example], step: int, options: FineTuningOptions) -> list[Example]:
    """The examples of a step: each epoch goes through all of them in an order of its own."""
    per_epoch = math.ceil(len(examples) / options.batch_size)
    epoch, at = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + epoch)
    order = torch.randperm(len(examples), generator=generator).tolist()
    chosen = order[at * options.batch_size : (at + 1) * options.batch_size]
    return sorted((examples[i] for i in chosen), key=lambda example: len(example.token_ids))


def _accumulate(model: nn.Module, batch: Sequence[Example], at_once: int) -> float:
    """Gradients of the mean loss over all answer tokens of a step, part by part; returns that mean."""
    n_learned = sum(len(example.token_ids) - example.n_prompt for example in batch)
    total = 0.0
    for begin in range(0, len(batch), at_once):
        loss = _summed_loss(model, batch[begin : begin + at_once]) / n_learned
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _summed_loss(model: nn.Module, part: Sequence[Example]) -> Tensor:
    """Cross entropy of the answers' tokens, summed: () fp32."""
    device = next(model.parameters()).device
    longest = max(len(example.token_ids) for example in part) - 1
    ids = torch.zeros(len(part), longest, dtype=torch.long)
    wanted = torch.full_like(ids, -100)
    for row, example in enumerate(part):
        tokens = torch.tensor(example.token_ids)
        # Padding stands on the right, where nothing that counts can see it: attention and scan look back only.
        ids[row, : len(tokens) - 1] = tokens[:-1]
        wanted[row, example.n_prompt - 1 : len(tokens) - 1] = tokens[example.n_prompt :]
    learned = (wanted != -100).to(device)  # (B, L)
    if isinstance(model, TrainableDecoder):  # the output matrix for the few positions that count
        logits = model.logits(model.hidden(ids.to(device))[learned])  # (n_learned, vocab_size)
    else:
        logits = model(ids.to(device))[learned]
    return F.cross_entropy(logits.float(), wanted.to(device)[learned], reduction="sum")


def _about(lora: LoRA, examples: Sequence[Example], options: FineTuningOptions) -> str:
    """What a state must share with the run that takes it up, as text."""
    tokens = hashlib.sha256(json.dumps([(example.n_prompt, *example.token_ids) for example in examples]).encode())
    kept = asdict(options)
    del kept["checkpoint_steps"], kept["examples_at_once"]  # they change no numbers beyond rounding
    return json.dumps(
        {
            "base": lora.fingerprint(),
            "lora": asdict(lora.options),
            "options": kept,
            "dtype": str(next(iter(lora.model.parameters())).dtype),
            "examples": tokens.hexdigest(),
        },
        sort_keys=True,
    )


class _Run:
    """The state of a run on disk: one file, written whole."""

    def __init__(self, lora: LoRA, optimizer: torch.optim.Optimizer, about: str, folder: Path | None) -> None:
        self._lora, self._optimizer, self._about = lora, optimizer, about
        self._path = None if folder is None else folder / _CHECKPOINT

    def keep(self, records: Sequence[StepRecord]) -> None:
        if self._path is None or not records:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, parameter, moments in self._each():
            tensors[name] = parameter.detach().contiguous().cpu()
            for moment, value in moments.items():  # none yet for an expert that no token went through
                tensors[f"{moment} {name}"] = value.contiguous().cpu()
        metadata = {"about": self._about, "steps": json.dumps([asdict(record) for record in records])}
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        try:
            save_file(tensors, part, metadata=metadata)
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)

    def take_up(self) -> list[StepRecord]:
        """The steps done so far, with adapters and moments as they were after them."""
        if self._path is None or not self._path.exists():
            return []
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("about") != self._about:
                    raise ModelError(
                        f"{self._path}: belongs to a run with another model, other examples or other options; delete "
                        "it, or name another folder"
                    )
                records = [StepRecord(**record) for record in json.loads(metadata["steps"])]
                with torch.no_grad():
                    there = set(file.keys())
                    for name, parameter, moments in self._each():
                        parameter.copy_(file.get_tensor(name))
                        for moment in _MOMENTS:
                            if f"{moment} {name}" in there:
                                value = file.get_tensor(f"{moment} {name}")
                                moments[moment] = value if moment == "step" else value.to(parameter.device)
        except (SafetensorError, OSError, ValueError, LookupError, TypeError) as exc:
            raise ModelError(f"{self._path}: not a readable state of a run ({exc}); delete it") from exc
        logger.info("taking up the run after step %d", len(records))
        return records

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _each(self) -> Iterator[tuple[str, nn.Parameter, dict[str, Any]]]:
        for name, parameter in self._lora.named_parameters():
            yield name, parameter, self._optimizer.state[parameter]
