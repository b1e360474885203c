"""Every architecture sees no future, uses all its parameters, learns, and is what its name says.

Where others have built the same, theirs is the measure: Hugging Face's GPT-2 and Llama, torch's encoder layer.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minigpt.checkpoint import gpt2_config, gpt2_weights
from minigpt.config import ModelConfig
from minigpt.model import GPT, KVCache, LayerNorm, RMSNorm, count_parameters, rotate, sinusoids
from minigpt.model import angles as angles_of
from tests.architectures import ARCHITECTURES, SIZES, architectures

VOCAB = 37


@pytest.fixture(params=ARCHITECTURES)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return ARCHITECTURES[request.param]


def lively(config: ModelConfig, seed: int = 0) -> GPT:
    """A model away from the small initial weights, where a missing bias or a wrong mask would hardly show."""
    torch.manual_seed(seed)
    model = GPT(config, VOCAB).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_ids(config: ModelConfig, batch: int, extra: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB, (batch, config.block_size + extra))


# ── what every architecture must do ───────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def assert_causal(config: ModelConfig, positions: range) -> None:
    model = lively(config)
    ids = random_ids(config, 1)
    before = model(ids)
    for position in positions:
        changed = ids.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCAB
        after = model(changed)
        assert torch.equal(before[:, :position], after[:, :position])
        assert (before[:, position] != after[:, position]).any()
        assert (before[:, -1] != after[:, -1]).any()  # and the last token looks back on all


def test_changing_a_later_token_never_changes_an_earlier_logit(config: ModelConfig) -> None:
    assert_causal(config, range(1, config.block_size))


@settings(max_examples=30)
@given(architectures(), st.integers(1, SIZES["block_size"] - 1))
def test_no_combination_of_choices_sees_the_future(config: ModelConfig, position: int) -> None:
    assert_causal(config, range(position, position + 1))


def assert_every_parameter_gets_a_gradient(config: ModelConfig) -> None:
    model = lively(config).double().train()  # in float64 what is zero by mathematics is far from what is small
    ids = random_ids(config, 8, extra=1)
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grad = parameter.grad
        if name.endswith("c_attn.bias"):
            query, key, value = grad.chunk(3)
            assert query.abs().max() > 0 and value.abs().max() > 0, name
            if config.positions == "rotary" or config.qk_norm:
                assert key.abs().max() > 1e-8 * value.abs().max(), name
            else:
                # A softmax ignores what all its scores share: only turning or normalising the keys makes their bias felt.
                assert key.abs().max() < 1e-12 * value.abs().max(), name
        elif name == "wpe.weight":
            assert (grad.abs().amax(dim=1) > 0).all(), "a position is not used"
        else:
            assert grad.abs().max() > 0, name


def test_every_parameter_gets_a_gradient(config: ModelConfig) -> None:
    """Guards against a part that is built but not used."""
    assert_every_parameter_gets_a_gradient(config)


@settings(max_examples=30)
@given(architectures())
def test_no_combination_of_choices_leaves_a_parameter_out(config: ModelConfig) -> None:
    assert_every_parameter_gets_a_gradient(config)


def test_overfits_one_batch(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = GPT(config, VOCAB).eval()  # without dropout, under which no batch can be learned by heart
    ids = random_ids(config, 2, extra=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=0.0)
    for _ in range(200):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        if loss.item() < 0.1:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"still at {loss.item():.3f}")


def parameters_of(model: GPT) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_count_by_arithmetic_is_that_of_the_model(config: ModelConfig) -> None:
    with torch.device("meta"):
        assert count_parameters(config, VOCAB) == parameters_of(GPT(config, VOCAB))


@given(architectures(), st.integers(1, 99), st.sampled_from([(1, 2), (2, 6), (3, 30), (5, 40)]))
def test_parameter_count_holds_for_any_combination(
    config: ModelConfig, vocab_size: int, heads: tuple[int, int]
) -> None:
    config = config.model_copy(update={"n_head": heads[0], "n_embd": heads[1]})
    with torch.device("meta"):
        assert count_parameters(config, vocab_size) == parameters_of(GPT(config, vocab_size))


def test_no_feed_forward_is_empty() -> None:
    """8/3 of a width of 1, rounded to whole eights, was no width at all: a model without a feed-forward."""
    assert all(
        ModelConfig(n_head=1, n_embd=width, activation="swiglu", bias_norm=True).ffn_width > 0 for width in range(1, 9)
    )


def test_first_loss_is_that_of_a_uniform_guess(config: ModelConfig) -> None:
    """Guards the initialisation: larger first weights start far above ln V.

    Not exactly ln V: logits of standard deviation s add s²/2, and with a tied head each token favours itself. Both grow
    with the width. Post-LN keeps the tokens longest in its stream: at width 384 and tied it starts 1.4 above ln V.
    """
    torch.manual_seed(0)
    config = config.model_copy(update={"n_layer": 4, "n_embd": 128, "block_size": 64})
    model = GPT(config, VOCAB).eval()
    ids = random_ids(config, 4, extra=1)
    with torch.no_grad():
        assert model.loss(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(math.log(VOCAB), abs=0.1)


def test_norms_on_the_branch_without_a_final_norm_start_above_a_guess() -> None:
    """The one combination for which the initialisation promises nothing: every branch adds a variance of one."""
    torch.manual_seed(0)
    config = ModelConfig(n_layer=8, n_embd=128, norm_placement="branch", final_norm=False)
    model = GPT(config, VOCAB).eval()
    ids = random_ids(config, 4, extra=1)
    with torch.no_grad():
        assert 0.15 < model.loss(ids[:, :-1], ids[:, 1:]).item() - math.log(VOCAB) < 1


def test_residual_projections_start_smaller() -> None:
    """GPT-2 divides the weights that end a residual branch by √(2 · n_layer)."""
    torch.manual_seed(0)
    config = ModelConfig(n_layer=8, n_head=2, n_embd=64, block_size=8, activation="swiglu")
    model = GPT(config, VOCAB)
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight"):
            assert parameter.std().item() == pytest.approx(0.02 / 4, rel=0.1), name
        elif parameter.dim() >= 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert (parameter == 1).all(), name


@pytest.mark.parametrize(
    ("placement", "tied", "size"), [("branch", False, 1.0), ("branch", True, 0.02), ("pre", False, 0.02)]
)
def test_embeddings_are_as_large_as_what_is_added_to_them(placement: str, tied: bool, size: float) -> None:
    """Norms on the branch add terms of size one: beside them small embeddings cost microgpt its first hundreds of steps."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=1, n_embd=64, n_head=2, norm_placement=placement, tie_weights=tied), VOCAB)
    for table in (model.wte, model.wpe):
        assert table.weight.std().item() == pytest.approx(size, rel=0.1)
    assert model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("placement", "tied"), [("pre", True), ("pre", False), ("post", False), ("branch", False)])
def test_every_placement_of_norms_learns_at_once(placement: str, tied: bool) -> None:
    """Which token follows which is the first thing to learn; with norms on the branch it once took 200 steps to begin."""
    torch.manual_seed(0)
    config = ModelConfig(
        n_layer=4, n_embd=64, block_size=32, norm_placement=placement, final_norm=placement != "post", tie_weights=tied
    )
    model = GPT(config, VOCAB)
    follower = torch.randperm(VOCAB)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(40):
        ids = [torch.randint(0, VOCAB, (8,))]
        for _ in range(config.block_size):
            ids.append(torch.where(torch.rand(8) < 0.9, follower[ids[-1]], torch.randint(0, VOCAB, (8,))))
        batch = torch.stack(ids, dim=1)
        loss = model.loss(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * math.log(VOCAB)


@pytest.mark.parametrize(
    "config",
    [
        *ARCHITECTURES.values(),
        ModelConfig(**SIZES, norm="rmsnorm", bias_norm=False, norm_placement="branch"),
        ModelConfig(**SIZES, norm="rmsnorm", bias_norm=False, norm_placement="post", final_norm=False, qk_norm=True),
    ],
    ids=[*ARCHITECTURES, "rmsnorm-branch", "rmsnorm-post-qk-norm"],
)
def test_half_precision_computes_without_a_warning(config: ModelConfig, recwarn: pytest.WarningsRecorder) -> None:
    """RMSNorm on a branch met weights of another precision: a slow way, and a warning on the screen."""
    model = lively(config)
    ids = random_ids(config, 2)
    torch.set_warn_always(True)  # torch says it once in a process, which may have been in another test
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model.loss(ids, ids)
        loss.backward()
    finally:
        torch.set_warn_always(False)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model.loss(ids, ids).item(), rel=0.05)
    assert [str(warning.message) for warning in recwarn] == []


# ── the key/value cache ───────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def assert_cache_changes_nothing(config: ModelConfig, pieces: list[int], batch: int) -> None:
    model = lively(config)
    ids = random_ids(config, batch)[:, : sum(pieces)]
    cache = KVCache(config, sum(pieces), batch_size=batch, like=model.wte.weight)
    logits = [model(piece, cache) for piece in ids.split(pieces, dim=1)]
    assert cache.length == sum(pieces)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 1, 5], [12]], ids=str)
def test_with_the_cache_the_logits_are_those_without(config: ModelConfig, pieces: list[int]) -> None:
    assert_cache_changes_nothing(config, pieces, batch=2)


pieces = st.lists(st.integers(1, 6), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) <= SIZES["block_size"])


@settings(max_examples=40)
@given(architectures(), pieces, st.integers(1, 3))
def test_no_combination_and_no_piece_confuses_the_cache(config: ModelConfig, pieces: list[int], batch: int) -> None:
    assert_cache_changes_nothing(config, pieces, batch)


# ── dropout ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dropout_only_while_training(config: ModelConfig) -> None:
    config = config.model_copy(update={"dropout": 0.5})
    model = GPT(config, VOCAB)
    ids = random_ids(config, 2)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


@pytest.mark.parametrize("part", ["embd", "attn", "resid"])
@torch.no_grad()
def test_dropout_is_where_it_was_asked_for_and_nowhere_else(part: str) -> None:
    config = ModelConfig(**{**SIZES, "n_embd": 64}, dropout=0.0, **{f"dropout_{part}": 0.5})
    model = lively(config).train()
    ids = random_ids(config, 4)
    x = torch.randn(4, config.block_size, config.n_embd)

    def dropped(y: torch.Tensor) -> float:
        return (y == 0).float().mean().item()

    expected = pytest.approx(0.5, abs=0.05)
    assert dropped(model.embed(ids, torch.arange(config.block_size))) == (expected if part == "embd" else 0)
    assert dropped(model.h[0].mlp(x)) == (expected if part == "resid" else 0)
    assert dropped(model.h[0].attn(x)) == (expected if part == "resid" else 0)
    assert torch.equal(model.h[0].attn(x), model.h[0].attn(x)) == (part == "embd")
    if part == "attn":  # the first token has one weight only, itself: it is dropped whole, or doubled
        first = model.h[0].attn(x)[:, 0]
        assert not torch.equal(first, model.eval().h[0].attn(x)[:, 0])


# ── the parts against their formulas ──────────────────────────────────────────────────────────────────────────────


def test_norms_are_what_their_papers_say() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 8) * 3 + 1
    scale, shift = torch.randn(8), torch.randn(8)
    rms, ln = RMSNorm(8), LayerNorm(8, bias=True)
    for norm in (rms, ln):
        norm.weight.data.copy_(scale)
    ln.bias.data.copy_(shift)
    torch.testing.assert_close(rms(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(ln(x), centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale + shift)


def test_sinusoids_are_those_of_2017() -> None:
    values = sinusoids(torch.arange(40), 6)
    for position in (0, 1, 7, 39):
        for pair in range(3):
            angle = position / 10000 ** (2 * pair / 6)
            assert values[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert values[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


@torch.no_grad()
def test_sinusoids_are_added_to_embeddings_scaled_up() -> None:
    """Without √C the tokens would drown in their positions."""
    model = lively(ModelConfig(**SIZES, positions="sinusoidal"))
    ids, places = torch.tensor([[3, 1, 4]]), torch.arange(5, 8)
    torch.testing.assert_close(model.embed(ids, places), model.wte(ids) * 4 + sinusoids(places, 16))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 5000), st.sampled_from([2, 4, 16]))
def test_rotary_scores_depend_on_the_distance_only(query_at: int, key_at: int, shift: int, width: int) -> None:
    generator = torch.Generator().manual_seed(query_at)
    q, k = torch.randn(2, 1, 1, 1, width, generator=generator)

    def score(offset: int) -> float:
        turned_q = rotate(q, angles_of(torch.tensor([query_at + offset]), width))
        turned_k = rotate(k, angles_of(torch.tensor([key_at + offset]), width))
        assert turned_q.norm().item() == pytest.approx(q.norm().item(), rel=1e-4)
        return (turned_q * turned_k).sum().item()

    assert score(shift) == pytest.approx(score(0), abs=1e-2)  # an angle of thousands has three decimals in float32
    assert torch.equal(rotate(q, angles_of(torch.tensor([0]), width)), q)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@torch.no_grad()
def test_the_order_of_tokens_is_felt(positions: str) -> None:
    """One layer of attention without positions cannot tell in which order came what it looks back on."""
    config = ModelConfig(**{**SIZES, "n_layer": 1}, positions=positions)
    model = lively(config)
    ids = torch.tensor([[1, 2, 3, 4]])
    swapped = torch.tensor([[2, 1, 3, 4]])
    assert (model(ids)[0, -1] - model(swapped)[0, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@torch.no_grad()
def test_norms_stand_where_the_configuration_says(norm: str) -> None:
    def block(placement: str) -> nn.Module:
        torch.manual_seed(0)
        config = ModelConfig(
            **SIZES, norm=norm, bias_norm=norm == "layernorm", norm_placement=placement, final_norm=placement != "post"
        )
        return GPT(config, VOCAB).h[0]

    x = torch.randn(2, 12, 16) * 50

    def mean_square(y: torch.Tensor) -> torch.Tensor:
        return y.square().mean(-1)

    one = torch.ones(2, 12)
    # Before the branch: however large the stream, what attention adds stays the same.
    pre = block("pre")
    pre.mlp.c_proj.weight.zero_()
    torch.testing.assert_close(pre(x) - x, pre(x * 10) - x * 10, atol=1e-4, rtol=0)
    # After the sum: the stream itself has unit size.
    torch.testing.assert_close(mean_square(block("post")(x)), one, atol=1e-3, rtol=0)
    # On the branch: what it adds has unit size, and no more.
    branch = block("branch")
    branch.mlp.c_proj.weight.zero_()
    torch.testing.assert_close(mean_square(branch(x) - x), one, atol=1e-2, rtol=0)


# ── against others ────────────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def assert_hugging_face_agrees(config: ModelConfig) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    ours = lively(config)
    theirs = GPT2LMHeadModel(GPT2Config(**gpt2_config(config, VOCAB))).eval()
    missing, unexpected = theirs.load_state_dict(gpt2_weights(ours), strict=False)
    assert unexpected == []
    tied = ["lm_head.weight"] if config.tie_weights else []
    assert [name for name in missing if not name.endswith("attn.bias")] == tied
    ids = random_ids(config, 4)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "gelu_tanh"},
        {"activation": "gelu"},
        {"activation": "relu", "n_inner": 24},
        {"activation": "relu2", "tie_weights": False},
        {"n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 24, "activation": "gelu_tanh"},
    ],
    ids=str,
)
def test_logits_equal_those_of_hugging_face_gpt2(changes: dict[str, object]) -> None:
    """Guards the whole architecture: any other order of norm, residual, GELU or scaling gives other logits."""
    assert_hugging_face_agrees(ModelConfig(**{**SIZES, **changes}))


@settings(max_examples=30)
@given(architectures())
def test_whatever_is_said_to_load_in_hugging_face_gpt2_does_so(config: ModelConfig) -> None:
    if gpt2_config(config, VOCAB) is not None:
        assert_hugging_face_agrees(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "rmsnorm", "bias_norm": False},
        {"norm_placement": "post", "final_norm": False},
        {"norm_placement": "branch"},
        {"final_norm": False},
        {"positions": "sinusoidal"},
        {"positions": "rotary"},
        {"qk_norm": True},
        {"activation": "swiglu"},
        {"bias_qkv": False},
        {"bias_proj": False},
        {"bias_mlp": False},
        {"bias_norm": False},
        {"tie_weights": False, "bias_head": True},
    ],
    ids=str,
)
def test_what_hugging_face_gpt2_cannot_be_is_not_said_to_load(changes: dict[str, object]) -> None:
    """It would load with a warning at most, and compute something else."""
    assert gpt2_config(ModelConfig(**SIZES, **changes), VOCAB) is None


@torch.no_grad()
def test_logits_equal_those_of_hugging_face_llama() -> None:
    """Rotary positions, RMSNorm, SwiGLU and no biases, all together and all as others have them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = ARCHITECTURES["llama"]
    ours = lively(config)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=config.n_embd,
            intermediate_size=config.ffn_width,
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            max_position_embeddings=config.block_size,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
        )
    ).eval()
    weights = {"model.embed_tokens.weight": ours.wte.weight, "model.norm.weight": ours.ln_f.weight}
    weights["lm_head.weight"] = ours.lm_head.weight
    for layer, block in enumerate(ours.h):
        query, key, value = block.attn.c_attn.weight.chunk(3)
        parts = {
            "input_layernorm": block.ln_1.weight,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.attn.c_proj.weight,
            "post_attention_layernorm": block.ln_2.weight,
            "mlp.up_proj": block.mlp.c_fc.weight,
            "mlp.gate_proj": block.mlp.c_gate.weight,
            "mlp.down_proj": block.mlp.c_proj.weight,
        }
        weights |= {f"model.layers.{layer}.{name}.weight": weight for name, weight in parts.items()}
    theirs.load_state_dict(weights)
    ids = random_ids(config, 4)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("placement", ["post", "pre"])
@torch.no_grad()
def test_a_block_equals_torchs_encoder_layer_made_causal(placement: str) -> None:
    """The layer of 2017, as torch has it, is the measure for norms after each sum."""
    config = ModelConfig(**SIZES, norm_placement=placement, final_norm=placement == "pre", activation="relu")
    ours = lively(config).h[0]
    theirs = nn.TransformerEncoderLayer(
        config.n_embd, config.n_head, config.ffn_width, dropout=0.0, batch_first=True, norm_first=placement == "pre"
    ).eval()
    pairs = {
        "self_attn.in_proj_": ours.attn.c_attn,
        "self_attn.out_proj.": ours.attn.c_proj,
        "linear1.": ours.mlp.c_fc,
        "linear2.": ours.mlp.c_proj,
        "norm1.": ours.ln_1,
        "norm2.": ours.ln_2,
    }
    theirs.load_state_dict(
        {f"{name}{kind}": getattr(part, kind) for name, part in pairs.items() for kind in ("weight", "bias")}
    )
    x = torch.randn(3, config.block_size, config.n_embd)
    mask = nn.Transformer.generate_square_subsequent_mask(config.block_size)
    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask, is_causal=True), atol=1e-5, rtol=1e-4)
