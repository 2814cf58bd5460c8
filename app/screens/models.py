"""The page "Models": which ones answer, which can be fetched, what fits this machine, and the readings on disk."""

import streamlit as st

from longleaf.app.fit import FigureRow, Memory, ModelFit, memories, shape_before_fetching, weightings
from longleaf.app.models_view import missing_models
from longleaf.app.page_view import plain
from longleaf.app.plan_commands import shape_in_words
from longleaf.app.render import human_bytes
from longleaf.app.service import Service
from longleaf.app.ui.figures import STYLE, table_html
from longleaf.app.ui.measured_charts import measured_chart, measured_charts
from longleaf.app.ui.memory_chart import TRANSFORMER, memory_chart
from longleaf.app.ui.model_list import draw_downloads, draw_fetch_button, draw_models
from longleaf.app.ui.readings_list import draw_readings
from longleaf.app.ui.session import errors_shown, service
from longleaf.app.workbench import is_endpoint, reader_name
from longleaf.model import get_spec
from longleaf.model.plan import count_parameters
from longleaf.model.public_models import PUBLIC_MODELS
from longleaf.model.registry import pulled_repos

EXAMPLE = "jamba2-3b"
WEIGHTS = {
    "packed": "as its file has them",
    "bf16": "bf16, as trained",
    "int8": "int8",
    "int8-experts": "int8, the experts only",
    "fp32": "fp32, for a CPU without bf16",
}


def main() -> None:
    """Draws the page; what goes wrong in one part of it leaves the others."""
    desk = service()
    st.html(STYLE)
    st.title("Models", anchor=False)
    for draw in (draw_in_use, draw_downloads, draw_models, draw_fit, draw_measured, draw_readings):
        with errors_shown():
            draw(desk)


def draw_in_use(desk: Service) -> None:
    """Draws who answers and who searches now, and the buttons for what is missing."""
    reader, embedder = desk.answerer.reader, desk.answerer.embedder
    with st.container(key="in-use"):
        with errors_shown():
            if reader is not None:
                st.markdown(
                    f"Answers by **{plain(reader.model_name)}**, with a context of {reader.context_tokens:,} tokens."
                )
            elif desk.settings.reader == "none":
                st.markdown("No reader, as LONGLEAF\\_READER=none says: answers are sentences of the documents.")
            else:
                st.markdown("No reader is here yet: answers are sentences of the documents.")
        if embedder is not None:
            name = desk.settings.embedder
            st.markdown(
                f"Search by words and by **{plain(name)}**, {get_spec(name).context_tokens:,} tokens at a time."
            )
        else:
            st.markdown("No embedder is here yet: search is by words alone.")
        missing = missing_models(desk.settings, has_reader=reader is not None, has_embedder=embedder is not None)
        for each in missing:
            called = "the embedded models" if each.name == "embedded" else each.name
            label = f"Fetch {called}, {human_bytes(each.size_bytes)}" if each.size_bytes else f"Use {called}, now here"
            draw_fetch_button(desk, each.name, plain(label), key=f"fetch-missing-{each.name}", type="primary")


def draw_fit(desk: Service) -> None:
    """Draws what a chosen model takes at each context, and what of it fits."""
    st.subheader("What fits", anchor=False)
    names = plannable(desk)
    with st.container(horizontal=True, key="fit-choice"):
        name = st.selectbox("Model", names, key="fit-model", width=300)
        shape = shape_before_fetching(name, desk.settings)
        ways = {held.name: held for held in weightings(shape)}
        wanted = desk.settings.quantize
        chosen = st.selectbox(
            "Weights",
            list(ways),
            list(ways).index(wanted) if wanted in ways and "packed" not in ways else 0,
            format_func=WEIGHTS.__getitem__,
            key=f"fit-weights-{name}",
            width=300,
        )
    fit = ModelFit(shape, ways[chosen])
    rows, at_hand = fit.rows(), memories(desk.settings)
    weights = human_bytes(rows[0].model.weights_bytes)
    words = shape_in_words(shape.config, count_parameters(shape.config))
    st.markdown(f"**{plain(name)}**: {plain(words)}; {weights} of weights")
    st.html(table_html(*fits_table(name, fit, at_hand)))
    chart, figures = st.columns([3, 2], gap="medium")
    with chart:
        st.altair_chart(memory_chart(name, rows, at_hand), width="stretch", key="memory-chart")
    with figures:
        st.html(table_html(*figures_table(name, fit, rows, at_hand[0])))
    st.caption(plain(" ".join(notes(fit))))


def draw_measured(_: Service) -> None:
    """Draws what was measured of hybrids, Transformers and Mamba models of equal size."""
    if not (charts := measured_charts()):
        return
    st.subheader("What a hybrid buys, measured", anchor=False)
    for number, (chart, column) in enumerate(zip(charts, st.columns(len(charts), gap="medium"), strict=True)):
        with column:
            st.markdown(f"**{plain(chart.title)}**")
            st.altair_chart(measured_chart(chart), width="stretch", key=f"measured-{number}")
            st.caption(plain(f"{chart.found} {chart.about}"))


def plannable(desk: Service) -> list[str]:
    """The readers whose shape is known; the one in use first, else one that shows what a hybrid is for."""
    settings = desk.settings
    name = reader_name(settings)
    first = name if desk.answerer.reader is not None and not is_endpoint(name) else EXAMPLE
    return list(dict.fromkeys([first, *PUBLIC_MODELS, *pulled_repos(settings.models_dir)]))


def fits_table(name: str, fit: ModelFit, at_hand: list[Memory]) -> tuple[str, list[str], list[list[str]]]:
    """Caption, head and rows: for each memory what fits of the model, and of the pure Transformer."""
    beside, trained = fit.transformer is not None, fit.shape.config.max_context_tokens
    rows = []
    for memory in at_hand:
        fits = [fit.within(memory.size_bytes), fit.transformer_within(memory.size_bytes)]
        counts = ["any" if each.tokens is None else f"{each.tokens:,}" for each in fits if each is not None]
        rows.append([f"{memory.name}, {human_bytes(memory.size_bytes)}", *counts])
    most = f", of the {trained:,} that it was trained for" if trained else ""
    return f"The longest context that fits, in tokens{most}", ["in", name, *([TRANSFORMER] if beside else [])], rows


def figures_table(
    name: str, fit: ModelFit, rows: list[FigureRow], memory: Memory
) -> tuple[str, list[str], list[list[str]]]:
    """Caption, head and rows: the figures of the chart. "*" marks a context that the model was not trained for."""
    beside, trained = fit.transformer is not None, fit.shape.config.max_context_tokens
    cells = []
    for row in rows:
        star = "*" if trained and row.tokens > trained else ""
        plans = [row.model] + ([row.transformer] if row.transformer else [])
        totals = [f"{made.total_bytes / 1e9:,.2f}" for made in plans]
        cells.append(
            [f"{row.tokens // 1024}K{star}", *totals, "yes" if row.model.total_bytes <= memory.size_bytes else "no"]
        )
    head = ["context", name, *([TRANSFORMER] if beside else []), f"fits {memory.name}"]
    return "Memory by context, in GB of 10⁹ bytes", head, cells


def notes(fit: ModelFit) -> list[str]:
    """What has to be known to read the figures."""
    config, trained = fit.shape.config, fit.shape.config.max_context_tokens
    said = []
    if fit.transformer is not None:
        said.append(
            f"The pure Transformer has the same shape with attention in all {config.n_layers} layers, as many "
            f"key-value heads in each ({config.n_kv_heads}), and weights counted as large as the model's: what differs "
            "is what it keeps of every token."
        )
    elif config.attention_layers:
        said.append(
            f"It is a pure Transformer itself: every token leaves keys and values in all {config.n_layers} layers. "
            f"Choose a hybrid, such as {EXAMPLE}, to see both."
        )
    else:
        said.append("It has no attention layers: what it keeps of a text has the same size for any context.")
    if trained and trained < 262_144:
        said.append(f"* It was trained for {trained:,} tokens.")
    said.append(
        "Leave a tenth of the memory free: the workspace is an estimate, and the program itself is not counted. "
        f"Numbers from: {fit.shape.source}."
    )
    return said


if __name__ == "__main__":
    main()
