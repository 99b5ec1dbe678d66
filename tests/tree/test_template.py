"""`ChatTemplate` and `ChatFormat`: the features of templates, what they refuse, and the prompt as pieces."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatTemplate
from helpers.tree_samples import chat_format, tokenizer

SYSTEM = Message(role="system", content="Be kind.")
USER = Message(role="user", content="How are you?")
ASSISTANT = Message(role="assistant", content="Fine.")


def test_blocks_are_trimmed_and_loop_controls_work():
    text = (
        "{% for m in messages %}\n  {% if loop.index > 1 %}\n{% break %}\n  {% endif %}\n{{ m.content }}\n{% endfor %}"
    )
    assert ChatTemplate(text).render([USER, ASSISTANT], add_generation_prompt=False) == "How are you?\n"


def test_json_filter_writes_plain_characters():
    template = ChatTemplate("{{ {'a': '<é>'} | tojson }}")
    assert template.render([USER], add_generation_prompt=False) == '{"a": "<é>"}'


def test_date_is_frozen():
    text = "{{ strftime_now('%Y-%m-%d') }} {{ date_string }}"
    template = ChatTemplate(text, date="03 Feb 2025")
    assert template.render([USER], add_generation_prompt=False) == "2025-02-03 03 Feb 2025"
    assert template.hash != ChatTemplate(text).hash
    with pytest.raises(InputError, match=r"template\.date is 'yesterday'"):
        ChatTemplate(text, date="yesterday")


def test_extra_variables_reach_the_template():
    chat = chat_format("qwen3", variables={"enable_thinking": False})
    assert chat.template.render([USER], add_generation_prompt=True).endswith("<think>\n\n</think>\n\n")


def test_templates_cannot_leave_the_sandbox():
    template = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(InputError, match="unsafe"):
        template.render([USER], add_generation_prompt=False)


def test_a_template_that_does_not_compile_is_named():
    with pytest.raises(InputError, match="mine does not compile"):
        ChatTemplate("{% if %}", name="mine")


def test_unknown_system_handling_is_an_error():
    with pytest.raises(InputError, match=r"template\.system is 'drop'"):
        ChatTemplate("", system="drop")


def test_refused_system_role_names_template_turn_and_remedy():
    with pytest.raises(
        InputError, match=r"gemma template refuses turn 1: .*config\.template\.system=fold_into_first_user"
    ):
        chat_format("gemma").template.render([SYSTEM, USER], add_generation_prompt=True)


def test_refused_order_names_the_turn_and_no_wrong_remedy():
    with pytest.raises(InputError, match=r"refuses turn 2: roles have to alternate") as caught:
        chat_format("mistral_v0_3").template.render([USER, USER], add_generation_prompt=True)
    assert "fold" not in str(caught.value)


def test_folded_system_message_stands_before_the_first_user_message():
    folded = chat_format("gemma", system="fold_into_first_user").template
    joined = Message(role="user", content="Be kind.\n\nHow are you?")
    assert folded.render([SYSTEM, USER, ASSISTANT], True) == chat_format("gemma").template.render(
        [joined, ASSISTANT], True
    )
    assert folded.render([USER], True) == chat_format("gemma").template.render([USER], True)


def test_prompt_ids_are_the_rendered_prompt():
    chat = chat_format("llama3")
    history = [SYSTEM, USER, ASSISTANT, USER]
    ids = chat.prompt_ids(history)
    assert tokenizer().decode(ids, skip_special=False) == chat.template.render(history, add_generation_prompt=True)


def test_prompt_ids_grow_by_a_suffix_over_turns():
    chat = chat_format("chatml")
    first = chat.prompt_ids([USER])
    assert chat.prompt_ids([USER, ASSISTANT, USER])[: len(first)] == first


def test_cuts_lie_after_generation_prompts_and_ends_of_turn():
    chat = chat_format("chatml")
    prompt = "x<|im_end|>\ny:z<|im_end|>\nw:"
    pieces, start = [], 0
    for end in chat.cuts(prompt, ["x<|im_end|>\ny:", "unrelated"]):
        pieces.append(prompt[start:end])
        start = end
    assert pieces == ["x<|im_end|>", "\ny:", "z<|im_end|>", "\nw:"]
