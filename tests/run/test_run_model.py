"""The start model of a run with a template and variables of the config's."""

import pytest
from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.run.manifest import Manifest
from aloe_jax.run.model import chat_format, model_folder, model_inputs
from aloe_jax.run.progress import Progress
from aloe_jax.run.settings import ModelSettings, TemplateSettings
from aloe_jax.run.stage import Run
from aloe_jax.settings import plain, read
from aloe_jax.train.sources import start_folder
from aloe_jax.tree.schema import Message
from helpers import tiny

THINKING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% if enable_thinking is false %}<none>{% endif %}{% endif %}"
)
ASKED = [Message(role="user", content="Hi")]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function from settings to a run of the tiny model."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    folder = tiny.write_folder(tmp_path / "model")
    (tmp_path / "thinking.jinja").write_text(THINKING)

    def made(template="", variables=""):
        values = plain(TemplateSettings()) | {"variables": variables}
        settings = {
            "model": ModelSettings(source=str(folder), template=template),
            "template": read(TemplateSettings, values, "config.template"),
        }
        return Run(epath.Path(tmp_path / "run"), settings, Progress())

    return made


def test_template_and_variables(run, tmp_path):
    """The reply's prompt of every stage: training, decoding, inspection all take the run's chat format."""
    file, off = str(tmp_path / "thinking.jinja"), '{"enable_thinking": false}'
    prompts = {
        settings: chat_format(run(*settings)).render(ASKED, True)
        for settings in (("", ""), ("", off), (file, ""), (file, off), ("plain", ""))
    }
    assert prompts["", ""] == prompts["", off]  # the model's own template has no such variable
    assert prompts["", ""].endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert prompts[file, ""] == "user: Hi<|im_end|>assistant: "
    assert prompts[file, off] == "user: Hi<|im_end|>assistant: <none>"
    assert prompts["plain", ""].endswith("User:\nHi\n\nAssistant:\n")
    hashes = {chat_format(run(*settings)).template.hash for settings in prompts}
    assert len(hashes) == len(prompts)  # answers and reference log-probabilities are kept apart
    assert model_inputs(run()) != model_inputs(run(file))


@pytest.mark.parametrize("text", ["{", "[1]", "true"])
def test_variables_that_are_no_object(run, text):
    with pytest.raises(InputError, match=r"config.template.variables: .* must be a JSON object or empty"):
        run(variables=text)


def test_a_finished_training_finds_the_template_again(run, tmp_path):
    """Also one from before there was the setting."""
    made = run("plain")
    (stage := made.directory("preference")).mkdir(parents=True)
    for template, expected in (({"template": "plain"}, model_folder(made)), ({}, model_folder(run()))):
        config = {"model": {"source": str(tmp_path / "model"), **template}}
        Manifest("preference", config=config).write(stage)
        assert start_folder(stage) == expected
