import numpy as np
import pytest
import torch

from dtx.analysis.core.patching_spec import HOOKS, Direction, Node
from dtx.app.asked import Explorer
from dtx.app.explore import entry
from dtx.app.frames import decode, encode
from dtx.app.models import Catalogue, Loader
from dtx.app.panels import found
from dtx.app.prompt import OTHERS, Prompt, prompts
from dtx.app.scene import OpenPanel, Scene
from dtx.app.vocabulary import Vocabulary
from dtx.errors import UserError
from tests.app import readers, small

VARIANTS = {
    "words": {},
    "numbers": {},
    "attention only": {"attn_only": True},
    "RMS": {"normalization_type": "RMS"},
    "no norm": {"normalization_type": None},
    "gated": {"gated_mlp": True, "act_fn": "silu"},
    "side by side": {"parallel_attn_mlp": True},
    "shared values": {"n_key_value_heads": 1},
}
PAIR = Scene(text="The cat sat on the", edited_text="The dog sat on the")
NUMBERS = Scene(text="0 1 2 4 5 6", edited_text="0 1 3 4 5 6")


def subject(scene=PAIR, model=None):
    model = readers.reader(readers.tokenizer()) if model is None else model
    told = []
    return Prompt(model, prompts(scene, Vocabulary(model), told), scene), told


def compute(moment, name, **parameters):
    panel = found()[name]
    moment.want(panel.hooks(moment.cfg))
    data = panel.compute(moment, panel.parameters(parameters))
    return data if isinstance(data, dict) else list(data)[-1][1]


@pytest.fixture(scope="module", params=VARIANTS)
def moment(request):
    tokens = None if request.param == "numbers" else readers.tokenizer()
    scene = NUMBERS if request.param == "numbers" else PAIR
    return subject(scene, readers.reader(tokens, **VARIANTS[request.param]))[0]


def test_the_panels_numbers_are_the_models_own(moment):
    tokens = torch.tensor([[0, 1, 2, 4, 5, 6]])
    with torch.no_grad():
        logits, cache = moment.model.run_with_cache(tokens)
    log_p = logits[0, -1].log_softmax(-1)
    policy = compute(moment, "policy")
    assert policy["actions"][-1] == OTHERS and len(set(policy["actions"])) == len(policy["actions"])
    np.testing.assert_allclose(
        policy["original"]["probabilities"][:-1], log_p.exp()[moment.tokens], atol=1e-6
    )
    assert float(policy["original"]["probabilities"].sum()) == pytest.approx(1.0)
    assert int(log_p.argmax()) == moment.tokens[0]
    own_entropy = torch.distributions.Categorical(logits=logits[0, -1]).entropy()
    assert policy["original"]["entropy"] == pytest.approx(float(own_entropy), abs=1e-5)
    positive, negative = moment.compared
    ld = float(logits[0, -1, positive] - logits[0, -1, negative])
    assert policy["original"]["ld"] == pytest.approx(ld, abs=1e-5)
    attention = compute(moment, "attention")
    pattern = torch.stack([cache[f"blocks.{i}.attn.hook_pattern"][0] for i in range(2)])
    np.testing.assert_allclose(attention["original"], pattern, atol=1e-6)
    np.testing.assert_allclose(attention["by_kind"].sum(-1), 1.0, atol=1e-5)
    assert attention["kinds"] == ["first", "later"]
    lens = compute(moment, "lens")
    assert lens["check"]["holds"] and lens["points"][-1] == list(moment.points)[-1]
    np.testing.assert_allclose(lens["original"]["ld"][-1], ld, atol=1e-5)


def test_parts_of_the_logit_difference_add_up(moment):
    for part in ("components", "sources", "neurons"):
        data = compute(moment, "attribution", part=part)
        assert data["check"]["holds"] and data["check"]["error"] < 2e-5
        assert data["original"]["value"].sum() == pytest.approx(data["original"]["ld"], abs=2e-5)
    with pytest.raises(UserError, match="a text has no view"):
        compute(moment, "attribution", part="view")


def test_a_heads_part_is_what_the_difference_loses_without_it():
    moment, _ = subject()
    data = compute(moment, "attribution")
    model, positive, negative = moment.model, *moment.compared
    ids = moment.original.ids
    with torch.no_grad():
        _, cache = model.run_with_cache(ids)
        last = cache["blocks.1.hook_resid_post"][0, -1]
        written = cache["blocks.1.attn.hook_z"][0, -1, 1] @ model.W_O[1, 1]
        centred = last - last.mean()
        scale = (centred.pow(2).mean() + model.cfg.eps).sqrt()
        read = (model.W_U[:, positive] - model.W_U[:, negative]) * dict(
            model.ln_final.named_parameters()
        ).get("w", next(model.ln_final.parameters()))
        lost = ((written - written.mean()) / scale) @ read
    assert data["original"]["value"][data["components"].index("L1H1")] == pytest.approx(
        float(lost), abs=1e-5
    )


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("node", list(Node))
def test_patching_is_one_patch_after_the_other(node, direction):
    moment, _ = subject()
    data = compute(moment, "patching", node=node.value, direction=direction.value)
    assert data["check"]["holds"] and not data["donors"]
    assert data["tokens"] == ["1 <|end|>", "2 The", "3 cat", "4 sat", "5 on", "6 the"]
    assert data["changed"].tolist() == [0, 0, 1, 0, 0, 0]
    sides = [moment.original, moment.edited]
    source, base = sides if direction is Direction.denoise else sides[::-1]
    positive, negative = moment.compared
    rng = np.random.default_rng(0)
    for _ in range(6):
        layer, head, at = rng.integers(2), rng.integers(2), rng.integers(6)
        name = f"blocks.{layer}.{HOOKS[node.value]}"
        new = source.activations({name})[name]

        def put(value, hook, new=new, head=head, at=at):
            value = value.clone()
            if node is Node.pattern:
                value[0, head, at] = new[0, head, at]
            elif node.each_head:
                value[0, at, head] = new[0, at, head]
            else:
                value[0, at] = new[0, at]
            return value

        with torch.no_grad():
            logits = moment.model.run_with_hooks(base.ids, fwd_hooks=[(name, put)])[0, -1]
        ld = float(logits[positive] - logits[negative])
        row = layer * 2 + head if node.each_head else layer
        change = ld - data["ld"][base.name]
        assert data["change"][row, at] == pytest.approx(change, abs=2e-5)


def test_steering_adds_the_difference_of_both_prompts():
    moment, _ = subject()
    data = compute(moment, "steering", layer=1, alpha=1.0)
    assert data["check"]["holds"]
    name = "blocks.1.hook_resid_pre"
    pair = [side.activations({name})[name][0, -1] for side in (moment.original, moment.edited)]

    def add(value, hook):
        value = value.clone()
        value[:, -1] += pair[0] - pair[1]
        return value

    with torch.no_grad():
        logits = moment.model.run_with_hooks(moment.edited.ids, fwd_hooks=[(name, add)])[0, -1]
    np.testing.assert_allclose(
        data["edited"]["probabilities"][:-1], logits.softmax(-1)[moment.tokens], atol=1e-5
    )
    with pytest.raises(UserError, match="a text has no reward_to_go"):
        compute(moment, "steering", tokens="reward_to_go")


def test_the_cursor_is_a_token_and_the_contrast_names_two():
    scene = PAIR.replace(cursor=3, contrast=(" mat", "#11"))
    moment, _ = subject(scene)
    assert moment.original.tokens.names == ("1 <|end|>", "2 The", "3 cat")
    assert moment.compared == (7, 11)
    with torch.no_grad():
        logits = moment.model(torch.tensor([[0, 1, 2, 4, 5, 6]]))[0, 2]
    data = compute(moment, "policy")
    assert data["contrast"] == [" mat", " Mary-Ann"]
    assert data["original"]["ld"] == pytest.approx(float(logits[7] - logits[11]), abs=1e-5)
    for wrong, problem in ((" mouse cat", "2 tokens"), ("", "0 tokens")):
        with pytest.raises(UserError, match=problem):
            Vocabulary(moment.model).number(wrong)


@pytest.mark.parametrize(
    ("scene", "line"),
    [
        ({"edited_text": "The big dog sat on the"}, "6 and 7 tokens; a pair is two prompts of equal length"),
        ({"edited_text": "a cat" * 12}, "the model reads at most 12"),
    ],
)  # fmt: skip
def test_prompts_that_are_no_pair_are_one_clear_line(scene, line):
    moment, told = subject(PAIR.replace(**scene))
    shown = moment.prompts.shown()
    assert line in shown["impossible"] and shown["edited"] is None and not told
    with pytest.raises(UserError, match=line):
        compute(moment, "patching")


@pytest.mark.parametrize(
    ("text", "read", "problem"),
    [
        ("", [0], "is empty"),
        ("3, 5 x 99", [3, 5], "numbers below 40"),
        ("1 " * 20, [1] * 12, "at most 12"),
    ],
)
def test_a_text_that_cannot_be_read_becomes_the_nearest_that_can(text, read, problem):
    moment, told = subject(Scene(text=text), readers.reader())
    assert moment.prompts.original == tuple(read)
    assert [message.part for message in told] == ["text"] and problem in told[0].problem


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    words = entry(readers.reader(readers.tokenizer()), None, [])
    numbers = entry(readers.reader(), None, [words.id])
    acting = small.entry(tmp_path_factory.mktemp("models"), "memory1", "memory")
    return Explorer(Catalogue(None, others=[words, numbers, acting]))


def ask(explorer, scene, *panels):
    wanted = [OpenPanel(name) for name in panels]
    return decode(encode(explorer.ask(scene.json(), wanted, Loader())))


def test_a_scene_of_texts_is_answered_and_what_needs_a_world_says_so(explorer):
    needs = {"rtg_scan": "reward_to_go", "ablation": "world", "policy_field": "world"}
    answer = ask(explorer, PAIR.replace(models=("model",)), "policy", "lens", *needs)
    play = answer["play"]
    assert play["kind"] == "tokens" and play["changed"] == ["3 cat"]
    assert play["edited"]["strings"] == ["<|end|>", "The", " dog", " sat", " on", " the"]
    assert answer["panels"]["lens"][0]["data"]["check"]["holds"]
    assert {name: answer["panels"][name][0]["needs"] for name in needs} == needs
    (told,) = explorer.about()["models"][1:2]
    assert (told["kind"], told["env"], told["layers"], told["steps"]) == ("tokens", None, 2, 12)
    alone = ask(explorer, Scene(models=("model",), text="The cat"), "policy")
    assert (
        alone["play"]["edited"] is None and alone["panels"]["policy"][0]["data"]["edited"] is None
    )


def test_long_panels_of_texts_come_as_they_grow(explorer):
    scene = PAIR.replace(models=("model",)).json()
    parts = list(explorer.long(scene, OpenPanel("patching"), Loader(), lambda: False))
    shares = [share for share, _ in parts]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 2
    assert np.isfinite(parts[-1][1]["panels"]["patching"][0]["data"]["change"]).all()


def test_models_that_cannot_stand_side_by_side_say_why(explorer):
    answer = ask(explorer, PAIR.replace(models=("model", "model2", "memory1")), "policy")
    first, *others = [cell["problem"] for cell in answer["models"]]
    assert first is None
    assert others == [
        "splits this text into other tokens than the first model",
        "acts in a world; the first model reads text",
    ]
    answer = ask(explorer, Scene(models=("memory1", "model")), "policy")
    assert answer["models"][1]["problem"] == "reads text; the first model acts in a world"
    assert "data" in answer["panels"]["policy"][0]
    scene = PAIR.replace(models=("model",)).json()
    with pytest.raises(UserError, match="there is no world in it, so no pairs file"):
        explorer.text(scene, "yaml")
    assert explorer.text(scene, "address").endswith(
        "&x=The%20cat%20sat%20on%20the&y=The%20dog%20sat%20on%20the"
    )


def test_a_panel_that_asks_for_a_world_gets_one_line():
    moment, _ = subject()
    for ask_for in ("place", "environment", "played", "pair", "roles"):
        with pytest.raises(UserError, match="needs a model that acts in a world"):
            getattr(moment, ask_for)
    with pytest.raises(UserError, match="no activation"):
        moment.original.activations({"blocks.0.hook_nothing"})
