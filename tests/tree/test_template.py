"""`ChatTemplate` and `ChatFormat`: the features of templates, what they refuse, and the prompt as pieces."""

import pytest

from aloe_jax.errors import InputError
from aloe_jax.hub import importer
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatFormat, ChatTemplate
from helpers import hub_files
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


def message(role, content):
    return Message(role=role, content=content)


def turns_template(content, header="{{ '<|im_start|>' + m.role + '\n' }}", prompt="<|im_start|>assistant\n"):
    """A template in ChatML whose messages are written by `content`."""
    body = f"{{% for m in messages %}}{header}{content}{{{{ '<|im_end|>\n' }}}}{{% endfor %}}"
    return body + f"{{% if add_generation_prompt %}}{{{{ '{prompt}' }}}}{{% endif %}}"


PARTS = {
    "loop": "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}",
    "first": "{{ m['content'][0]['text'] }}",
    "filter": "{% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p.text }}{% endfor %}",
    "system": "{% if m.role == 'system' %}{{ m.content[0].text }}{% else %}{{ m.content }}{% endif %}",
    "reply": "{% if m.role == 'assistant' %}{{ m.content[0].text }}{% else %}{{ m.content }}{% endif %}",
}


@pytest.mark.parametrize("name", PARTS)
def test_a_template_that_takes_parts_gets_parts(name):
    """Given texts it writes nothing in their place, and each reply is trained on as its end of turn alone."""
    messages = [message("system", "Be brief."), message("user", "Best tea?"), message("assistant", "Oolong.")]
    plain = ChatFormat(tokenizer(), ChatTemplate(turns_template("{{ m.content }}")))
    parts = ChatFormat(tokenizer(), ChatTemplate(turns_template(PARTS[name])))
    assert parts.render(messages, False) == plain.render(messages, False)
    assert "Oolong." in plain.render(messages, False)
    assert parts.prompt_ids(messages[:2]) == plain.prompt_ids(messages[:2])


def lossy(text, **options):
    return ChatFormat(tokenizer(), ChatTemplate(text, name="the template", **options))


NO_SYSTEM = turns_template("{{ m.content }}").replace("in messages", "in messages if m.role != 'system'")


def test_a_system_message_that_is_not_written_is_refused_and_the_remedy_helps():
    messages = [message("system", "Be brief."), message("user", "Best tea?")]
    chat = lossy(NO_SYSTEM)
    with pytest.raises(InputError, match=r"leaves out the text of system messages; config\.template\.system=fold"):
        chat.prompt_ids(messages)
    assert "Best tea?" in chat.render(messages[1:], True)
    assert chat.render([message("system", " "), *messages[1:]], True) == chat.render(messages[1:], True)
    assert "Be brief.\n\nBest tea?" in lossy(NO_SYSTEM, system="fold_into_first_user").render(messages, True)


@pytest.mark.parametrize("content", ["{{ m['text'] }}", "{{ m.get('value') }}", "hi"])
def test_a_template_that_writes_no_content_is_refused(content):
    with pytest.raises(InputError, match="leaves out the text of user messages, given as text and as parts"):
        lossy(turns_template(content)).prompt_ids([message("user", "Best tea?")])


def test_a_template_without_a_generation_prompt_is_refused_where_its_header_would_be_trained_on():
    without = turns_template("{{ m.content }}", prompt="")
    chat = lossy(without)
    with pytest.raises(InputError, match=r"has no generation prompt: '<|im_start|>assistant' would count as a part"):
        chat.prompt_ids([message("user", "Best tea?")])
    assert chat.render([message("user", "Best tea?")], False)  # nobody asks for a prompt
    written = "'[INST] ' + m.content + ' [/INST]' if m.role == 'user' else ' ' + m.content + '</s>'"
    bracket = f"{{% for m in messages %}}{{{{ {written} }}}}{{% endfor %}}"
    assert lossy(bracket).render([message("user", "Best tea?")], True) == "[INST] Best tea? [/INST]"


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_template_is_refused_by_every_reader(tmp_path, text):
    folder = hub_files.write_tiny(tmp_path / "m")
    (folder / "chat_template.jinja").write_text(text)
    with pytest.raises(InputError, match="the chat template is empty"):
        ChatFormat.load(folder)
    with pytest.raises(InputError, match="the chat template is empty"):
        importer.import_model(str(folder), tmp_path / "out")
