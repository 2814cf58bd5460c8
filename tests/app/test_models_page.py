"""The page "Models" as a person walks through it, without a browser and without a network."""

import json
from pathlib import Path

import pytest
import torch

st = pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest  # noqa: E402

import longleaf.app.settings  # noqa: E402
from longleaf.app.fit import Memory, ModelFit, Weighting, find_shape  # noqa: E402
from longleaf.app.page_view import plain  # noqa: E402
from longleaf.app.settings import load_settings  # noqa: E402
from longleaf.app.ui.measured_charts import measured_charts  # noqa: E402
from longleaf.app.ui.memory_chart import TRANSFORMER, memory_chart, shown_memories  # noqa: E402
from longleaf.app.ui.readings_list import what_goes  # noqa: E402
from longleaf.app.ui.session import service  # noqa: E402
from longleaf.errors import ModelDownloadError  # noqa: E402
from longleaf.model import MODELS  # noqa: E402
from longleaf.model.config import DecoderConfig  # noqa: E402
from longleaf.model.readings import ReadingStore  # noqa: E402
from longleaf.model.state import DecoderState  # noqa: E402

MAIN = Path(longleaf.app.settings.__file__).with_name("main.py")
TINY = DecoderConfig(
    "mamba", 1000, 8, 1, ("mamba",), (False,), d_inner=16, d_state=2, d_conv=4, dt_rank=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("CONTEXT_TOKENS", "EMBEDDER", "READER", "QUANTIZE", "READINGS_BUDGET_BYTES"):
        monkeypatch.delenv(f"LONGLEAF_{name}", raising=False)
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "models"))
    yield tmp_path / "home"
    st.cache_resource.clear()


def start() -> AppTest:
    return AppTest.from_file(str(MAIN), default_timeout=60).run().switch_page("screens/models.py").run()


def shown(at: AppTest) -> str:
    """All that a person could read."""
    assert not at.exception, [e.message for e in at.exception]
    kinds = (at.get("html"), at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.toast)
    return "\n".join(str(getattr(e, "value", None) or e.proto.body) for kind in kinds for e in kind)


def button(at: AppTest, key: str):
    return next(each for each in at.button if each.key == key)


def keep(home: Path, n_tokens: int = 2000, label: str = "harbour.pdf", seconds: float = 90.0) -> ReadingStore:
    store = ReadingStore(home / "readings")
    state = DecoderState.empty(TINY, "f" * 64, torch.float32, torch.float32, torch.device("cpu"))
    state.note(range(n_tokens, 2 * n_tokens))
    assert store.keep(state, seconds=seconds, label=label, model_name="jamba2-3b")
    return store


def put_files(models_dir: Path, name: str) -> None:
    """Files of a model as far as their sizes go: holes, which take no room."""
    for file in MODELS[name].files:
        path = models_dir / name / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(file.size_bytes)


def test_without_models_the_page_says_what_to_fetch_and_how_much_it_is():
    at = start()
    text = shown(at)
    assert "No reader is here yet" in text
    assert "search is by words alone" in text
    assert button(at, "fetch-missing-embedded").label == "Fetch the embedded models\\, 1\\.2 GB"
    assert "None yet. When a document is read as a whole" in text
    assert not [each for each in at.button if each.key == "prune-readings"]


def test_models_that_are_here_have_no_fetch_button_and_only_the_missing_one_is_offered(tmp_path, monkeypatch):
    monkeypatch.setattr("longleaf.model.ChatLongleaf.load", lambda self: None)
    put_files(tmp_path / "models", "qwen2.5-1.5b")
    at = start()
    text = shown(at)
    assert "Answers by **qwen2\\.5\\-1\\.5b**, with a context of 4,096 tokens" in text
    assert text.count("in use</span>") == 1
    keys = {each.key for each in at.button}
    assert "fetch-qwen2.5-1.5b" not in keys
    assert {"fetch-missing-minilm", "fetch-minilm", "fetch-jamba2-3b"} <= keys
    assert "can&#x27;t be planned" in text, "the file is all zeros: that is said, and the page is whole"
    assert at.selectbox(key="fit-model").value == "qwen2.5-1.5b"
    at.selectbox(key="fit-model").set_value("jamba2-3b").run()
    assert "2 attention" in shown(at)


def test_a_failed_download_says_why_and_can_be_begun_again(monkeypatch):
    why = "no source could deliver $minilm$. Check the network"

    def refuse(name, models_dir, progress):
        progress(0, 90_000_000, name)
        raise ModelDownloadError(why)

    monkeypatch.setattr("longleaf.app.service.pull", refuse)
    at = start()
    button(at, "fetch-minilm").click().run()
    service().pull_job("minilm").wait(20)
    at.run()
    (error,) = at.error
    assert "\\$minilm\\$\\. Check the network" in error.value
    assert not button(at, "fetch-minilm").disabled
    button(at, f"dismiss-{service().pull_job('minilm').id}").click().run()
    assert not at.error
    assert not shown(at).count("no source")


def test_a_download_is_seen_by_another_session_and_stops(monkeypatch):
    def last(name, models_dir, progress):
        while True:
            progress(30_000_000, 90_000_000, name)

    monkeypatch.setattr("longleaf.app.service.pull", last)
    at = start()
    button(at, "fetch-minilm").click().run()
    again = start()
    assert button(again, "fetch-minilm").disabled
    assert button(again, "fetch-minilm").label == "Fetching"
    job = service().pull_job("minilm")
    button(again, f"stop-{job.id}").click().run()
    assert job.wait(20)
    again.run()
    assert "minilm: stopped. Fetch it again to go on".replace(".", "\\.").replace(":", "\\:") in shown(again)
    assert not button(again, "fetch-minilm").disabled


@pytest.mark.parametrize("typed", ["nonsense", "a/b/c", ""])
def test_what_is_no_model_of_the_hub_is_said_in_our_words(typed):
    at = start()
    at.text_input(key="hub-name").set_value(typed)
    button(at, "fetch-hub-name").click().run()
    assert ("org/name" if not typed else "no model is called") in shown(at).replace("\\", "")
    assert not [job for job in service().work.jobs() if job.kind == "model"]


def test_the_hub_out_of_reach_is_an_error_text_on_the_page(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    at = start()
    at.text_input(key="hub-name").set_value("somebody/tiny")
    button(at, "fetch-hub-name").click().run()
    service().pull_job("somebody/tiny").wait(20)
    at.run()
    assert "HF_HUB_OFFLINE is set" in at.error[0].value.replace("\\", "")


def test_the_fit_shows_the_planners_figures_for_the_chosen_weights():
    at = start()
    fit = ModelFit(find_shape("jamba2-3b", load_settings()), Weighting())
    for row in fit.rows():
        assert f"<td>{row.model.total_bytes / 1e9:,.2f}</td><td>{row.transformer.total_bytes / 1e9:,.2f}</td>" in shown(
            at
        )
    at.selectbox(key="fit-weights-jamba2-3b").set_value("int8").run()
    last = ModelFit(fit.shape, Weighting(quantize="int8")).rows()[-1]
    assert f"<td>{last.model.total_bytes / 1e9:,.2f}</td>" in shown(at)
    at.selectbox(key="fit-model").set_value("mistral-7b").run()
    assert "It is a pure Transformer itself" in shown(at)


def test_the_chart_draws_the_planners_bytes_and_the_memory_that_is_near():
    fit = ModelFit(find_shape("jamba2-3b", load_settings()), Weighting())
    near, far = Memory("this machine", 12 * 10**9), Memory("a large graphics card", 80 * 10**9)
    drawn = json.dumps(memory_chart("jamba2-3b", fit.rows(), [near, far]).to_dict())
    for row in fit.rows():
        assert f'"of": "jamba2-3b", "bytes": {row.model.total_bytes}' in drawn
        assert f'"of": "{TRANSFORMER}", "bytes": {row.transformer.total_bytes}' in drawn
    assert "this machine: 12.0 GB" in drawn
    assert "graphics card" not in drawn
    assert shown_memories([{"bytes": 50 * 10**9}], [near, far]) == [near, far]


def test_readings_are_listed_and_one_can_be_removed(home):
    keep(home)
    store = keep(home, 300, "letter [draft].pdf", 4.0)
    at = start()
    text = shown(at)
    assert "2 readings" in text
    assert "harbour.pdf" in text
    assert "2,000 tokens" in text
    assert "saves 2 min" in text
    assert "letter [draft].pdf" in text
    (letter,) = [reading for reading in store.list() if reading.n_tokens == 300]
    button(at, f"remove-reading-{letter.id}").click().run()
    assert "letter \\[draft\\]\\.pdf" in shown(at)
    button(at, "remove-reading-now").click().run()
    assert [reading.label for reading in store.list()] == ["harbour.pdf"]
    assert "letter" not in shown(at)


def test_making_room_where_all_fits_says_so(home):
    keep(home)
    at = start()
    button(at, "prune-readings").click().run()
    assert "All of it fits" in shown(at)


def test_making_room_says_what_goes_before_it_does(home, monkeypatch):
    store = keep(home)
    monkeypatch.setenv("LONGLEAF_READINGS_BUDGET_BYTES", "100")  # lowered after it was read
    at = start()
    button(at, "prune-readings").click().run()
    assert "The only reading goes\\: harbour\\.pdf \\(2\\,000 tokens\\)" in shown(at)
    assert store.list()
    button(at, "prune-readings-now").click().run()
    assert store.list() == []
    assert "None yet" in shown(at)


def test_what_goes_is_counted_where_the_store_chooses(home):
    keep(home)
    found = keep(home, 300, "letter.pdf", 4.0).list()
    assert what_goes(found, 9_000_000, 5_000_000).startswith("At least 4.0 MB of 9.0 MB go: of the 2 readings")
    assert what_goes(found, 9_000_000, 0).startswith("All 2 readings go: ")


def test_no_readings_are_wanted(monkeypatch):
    monkeypatch.setenv("LONGLEAF_READINGS_BUDGET_BYTES", "0")
    assert "No readings are kept" in shown(start())


@pytest.mark.parametrize("damage", ["a file", "nonsense in it"])
def test_a_damaged_models_folder_leaves_the_page_usable(tmp_path, damage):
    models = tmp_path / "models"
    if damage == "a file":
        models.write_text("not a folder")
    else:
        (models / "somebody--tiny").mkdir(parents=True)
        (models / "somebody--tiny" / ".snapshot.json").write_text(
            json.dumps({"repo": "somebody/tiny", "revision": "c", "files": []})
        )
    at = start()
    text = shown(at)
    assert "All models" in text
    assert "Readings on disk" in text
    if damage != "a file":
        assert "somebody/tiny" in text
        assert "can&#x27;t be planned" in text


def test_what_was_measured_is_drawn_with_a_sentence_and_where_it_comes_from():
    text = shown(start())
    charts = measured_charts()
    assert {"Time to the first token", "What is kept of a text"} <= {chart.title for chart in charts}
    for chart in charts:
        assert f"**{plain(chart.title)}**" in text
        assert plain(f"{chart.found} {chart.about}") in text
