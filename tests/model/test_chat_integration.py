"""LangChain's integration suite, whole and unchanged, on the embedded reader (Qwen2.5 1.5B)."""

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from longleaf.model import ChatLongleaf


@pytest.fixture(scope="module")
def engine(qwen):
    chat = ChatLongleaf(model=str(qwen))
    yield chat.load()
    chat.close()


@pytest.mark.slow
class TestIntegration(ChatModelIntegrationTests):
    """The weights are loaded once for all of them."""

    @pytest.fixture(autouse=True)
    def _engine(self, engine):
        type(self).engine = engine

    @property
    def chat_model_class(self):
        return ChatLongleaf

    @property
    def chat_model_params(self):
        return {"model": "qwen2.5-1.5b", "max_tokens": 96, "engine": self.engine}

    @property
    def supports_json_mode(self):
        return True
