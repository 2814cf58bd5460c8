"""LangChain's integration suite on real weights (SmolLM2 135M)."""

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests

from longleaf.model import ChatLongleaf


@pytest.fixture(scope="module")
def engine(smollm2):
    chat = ChatLongleaf(model=str(smollm2))
    yield chat.load()
    chat.close()


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
        return {"model": "smollm2-135m", "max_tokens": 24, "engine": self.engine}
