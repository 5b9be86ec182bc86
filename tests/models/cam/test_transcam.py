"""TransCAM's network: the published parameters, numbers and checkpoints, and its refinement."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from models.cam.classifier import classifier_content, load_classifier
from models.cam.transcam import TransCAM, refine_by_attention
from util.data.voc import load_classes
from util.runtime import checkpoint
from util.runtime.errors import InputError


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return TransCAM(21, "tiny").eval()


def fill_by_formula(net):
    """Weights that any implementation with the same parameter names gets alike."""
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 1.7 + len(name))
            wave = wave.float().reshape(value.shape)
            norm = ("bn" in name or "norm" in name or ".ln." in name) and name.endswith("weight")
            if norm or name.endswith("running_var"):
                wave = 1 + 0.5 * wave
            elif value.ndim > 1:
                wave = wave * 1.5 * value[0].numel() ** -0.5
            else:
                wave = 0.1 * wave
            value.copy_(wave)


def test_every_published_name_and_shape_and_no_other(voc12):
    facts = Path(voc12).parent / "facts" / "conformer_small_transcam_state_dict.txt"
    expected = dict(line.split(" ", 1) for line in facts.read_text().splitlines())
    with torch.device("meta"):
        state = TransCAM(21, "small").state_dict()
    assert {name: str(list(value.shape)) for name, value in state.items()} == expected


def test_outputs_are_those_of_the_published_network(tiny):
    # Computed once with the published TransCAM code at this size, under the same weights and input.
    fill_by_formula(tiny)
    wave = torch.cos(torch.arange(2 * 3 * 64 * 64, dtype=torch.float64) * 0.37)
    with torch.inference_mode():
        output = tiny(wave.float().reshape(2, 3, 64, 64))
    expected = {
        "conv_logits": [-0.05661, 0.065673, 0.050913, -0.073089],
        "trans_logits": [1.912311, 1.932039, 1.686205, 1.484473],
        "cam": [-0.046791, -0.050105, -0.048521, -0.047038, -0.046762, -0.046762],
        "conv_cam": [-0.025719, -0.046762, -0.103712, -0.06761, -0.0946, -0.010995],
    }
    found = {
        "conv_logits": output.conv_logits[1, :4],
        "trans_logits": output.trans_logits[1, :4],
        "cam": output.cam[1, 2].flatten()[:6],  # without the background, so class 3 is at 2
        "conv_cam": output.conv_cam[1, 3].flatten()[:6],
    }
    for name, values in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(values), atol=1e-5, rtol=1e-5)


def read_off_the_papers(state, images, depth, heads):
    """Conformer and TransCAM once more, straight-line over the parameters: both logits, CNN maps, refined maps."""
    functional = torch.nn.functional

    def norm(x, name, eps=1e-6):
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def conv(x, name, **options):
        return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def batch_norm(x, name, eps=1e-6):
        mean, variance, weight, bias = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + eps).sqrt() * weight + bias

    def conv_norm(x, number, block, eps=1e-6, **options):
        return batch_norm(conv(x, f"{block}conv{number}", **options), f"{block}bn{number}", eps)

    def bottleneck(x, block, stride=1, added=0.0):
        middle = conv_norm(x, 1, block).relu()
        middle = conv_norm(middle + added, 2, block, stride=stride, padding=1).relu()
        if f"{block}residual_conv.weight" in state:
            x = batch_norm(conv(x, f"{block}residual_conv", stride=stride), f"{block}residual_bn")
        return (conv_norm(middle, 3, block) + x).relu(), middle

    def transformer(tokens, block):
        rows = linear(norm(tokens, f"{block}norm1"), f"{block}attn.qkv")
        dim = tokens.shape[-1]
        query, key, value = rows[..., :dim], rows[..., dim : 2 * dim], rows[..., 2 * dim :]
        every, mixed = [], []
        for head in range(heads):
            part = slice(head * dim // heads, (head + 1) * dim // heads)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / (dim // heads) ** 0.5
            every.append(scores.exp() / scores.exp().sum(dim=2, keepdim=True))
            mixed.append(every[-1] @ value[..., part])
        tokens = tokens + linear(torch.cat(mixed, dim=2), f"{block}attn.proj")
        hidden = functional.gelu(linear(norm(tokens, f"{block}norm2"), f"{block}mlp.fc1"))
        return tokens + linear(hidden, f"{block}mlp.fc2"), sum(every) / heads

    stem = functional.max_pool2d(conv_norm(images, 1, "", eps=1e-5, stride=2, padding=3).relu(), 3, 2, 1)
    x = bottleneck(stem, "conv_1.")[0]
    patches = conv(stem, "trans_patch_conv", stride=4)
    height, width = patches.shape[2:]
    tokens = torch.cat([state["cls_token"].expand(len(x), 1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    tokens, attention = transformer(tokens, "trans_1.")
    for number in range(2, depth + 1):
        block = f"conv_trans_{number}."
        x, middle = bottleneck(
            x, f"{block}cnn_block.", stride=2 if number in (depth // 3 + 1, 2 * depth // 3 + 1) else 1
        )
        cell = middle.shape[2] // height
        squeezed = functional.avg_pool2d(conv(middle, f"{block}squeeze_block.conv_project"), cell)
        squeezed = functional.gelu(norm(squeezed.flatten(2).transpose(1, 2), f"{block}squeeze_block.ln"))
        tokens = tokens + torch.cat([tokens[:, :1], squeezed], dim=1)
        tokens, weights = transformer(tokens, f"{block}trans_block.")
        attention = attention + weights
        grid = tokens[:, 1:].transpose(1, 2).reshape(len(x), -1, height, width)
        grid = batch_norm(conv(grid, f"{block}expand_block.conv_project"), f"{block}expand_block.bn").relu()
        x = bottleneck(x, f"{block}fusion_block.", added=grid.repeat_interleave(cell, 2).repeat_interleave(cell, 3))[0]
    maps = conv(x, "conv_cls_head", padding=1)
    refined = torch.zeros_like(maps)
    for patch in range(height * width):
        shares = attention[:, 1 + patch, 1:].reshape(-1, 1, height, width)
        refined[:, :, patch // width, patch % width] = (shares * maps).sum(dim=(2, 3))
    return maps.mean(dim=(2, 3)), linear(norm(tokens[:, 0], "trans_norm", 1e-5), "trans_cls_head"), maps, refined


@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_outputs_are_those_of_a_second_reading_of_the_papers(tiny, size):
    fill_by_formula(tiny)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = tiny(images)
        conv_logits, trans_logits, maps, refined = read_off_the_papers(tiny.state_dict(), images, depth=6, heads=3)
    torch.testing.assert_close(output.conv_logits, conv_logits, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(output.trans_logits, trans_logits, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(output.conv_cam, maps, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(output.cam, refined[:, 1:], atol=1e-4, rtol=1e-5)


def test_every_norm_has_the_published_epsilon(tiny):
    norms = (torch.nn.BatchNorm2d, torch.nn.LayerNorm)
    found = {name: module.eps for name, module in tiny.named_modules() if isinstance(module, norms)}
    assert {name for name, eps in found.items() if eps == 1e-5} == {"bn1", "trans_norm"}  # the stem and the last norm
    assert set(found.values()) == {1e-5, 1e-6} and len(found) > 60


def test_refinement_by_hand():
    cam = torch.tensor([[[[1.0, -2.0]]]])  # one class, 1x2 patches
    attention = torch.tensor([[[0.2, 0.3, 0.5], [0.5, 0.4, 0.1], [0.0, 0.7, 0.3]]])
    # Rows attend; the class token (first row and column) is dropped, and 0.4 + 0.1 is not scaled up to 1.
    expected = torch.tensor([[[[0.4 * 1 + 0.1 * -2, 0.7 * 1 + 0.3 * -2]]]])
    torch.testing.assert_close(refine_by_attention(cam, attention), expected)


def test_attention_rows_sum_to_one_in_every_block(tiny):
    with torch.inference_mode():
        output = tiny(torch.randn(2, 3, 64, 96))
    assert output.attention.shape == (2, 1 + 4 * 6, 1 + 4 * 6)
    rows = output.attention.sum(dim=2) / tiny.size.depth
    torch.testing.assert_close(rows, torch.ones_like(rows))
    assert output.attention.min() >= 0


def test_logits_leave_the_background_out_and_sum_both_branches(tiny):
    with torch.inference_mode():
        output = tiny(torch.randn(1, 3, 64, 64))
    assert output.logits.shape == (1, 20) and output.cam.shape == (1, 20, 4, 4)
    torch.testing.assert_close(output.logits[:, 0], output.conv_logits[:, 1] + output.trans_logits[:, 1])
    torch.testing.assert_close(output.conv_logits, output.conv_cam.mean(dim=(2, 3)))


@pytest.mark.parametrize("size", [(48, 96), (50, 70)])
def test_rectangles_and_padding(tiny, size):
    images = torch.randn(1, 3, *size)
    padded = torch.zeros(1, 3, -(-size[0] // 16) * 16, -(-size[1] // 16) * 16)
    padded[:, :, : size[0], : size[1]] = images
    with torch.inference_mode():
        output, expected = tiny(images), tiny(padded)
    assert output.cam.shape[2:] == (padded.shape[2] // 16, padded.shape[3] // 16)
    torch.testing.assert_close(output.cam, expected.cam)


def test_without_attention_the_rest_is_the_same(tiny):
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        output, fused = tiny(images), tiny(images, with_attention=False)
    assert fused.attention is None
    torch.testing.assert_close(fused.conv_cam, output.conv_cam, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fused.logits, output.logits, atol=1e-4, rtol=1e-4)


def test_class_token_reaches_the_block_twice(tiny):
    block = tiny.conv_trans_2
    seen = {}
    block.trans_block.register_forward_pre_hook(lambda module, args: seen.update(tokens=args[0]))
    tokens = torch.randn(1, 1 + 4, 96)
    with torch.inference_mode():
        block(torch.randn(1, 64, 8, 8), tokens, (2, 2), False)
    torch.testing.assert_close(seen["tokens"][:, 0], 2 * tokens[:, 0])


def test_a_training_step_lowers_the_loss(tiny):
    tiny.train()
    images, target = torch.randn(4, 3, 64, 64), torch.zeros(4, 20)
    target[[0, 1, 2, 3], [0, 1, 0, 5]] = 1
    optimizer = torch.optim.AdamW(tiny.parameter_groups(1e-3))
    losses = []
    for _ in range(4):
        logits = tiny(images, with_attention=False).logits
        loss = torch.nn.functional.multilabel_soft_margin_loss(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    # No label trains the background: its rows of both heads get no gradient.
    assert not tiny.conv_cls_head.weight.grad[0].any() and not tiny.trans_cls_head.weight.grad[0].any()
    assert tiny.conv_cls_head.weight.grad[1].any()


def imagenet_like(net):
    """A published Conformer's parameters: 1000 classes, and a linear head where TransCAM has a convolution."""
    state = {name: torch.rand_like(value.float()).to(value.dtype) for name, value in net.state_dict().items()}
    channels, dim = 4 * net.size.base_channels, net.size.embed_dim
    state["conv_cls_head.weight"], state["conv_cls_head.bias"] = torch.rand(1000, channels), torch.rand(1000)
    state["trans_cls_head.weight"], state["trans_cls_head.bias"] = torch.rand(1000, dim), torch.rand(1000)
    return state


@pytest.mark.parametrize("wrapped", [False, True])
def test_imagenet_weights_load_but_their_heads(tiny, tmp_path, wrapped):
    state = imagenet_like(tiny)
    head = tiny.conv_cls_head.weight.clone()
    if wrapped:
        content = {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}
    else:
        content = state
    torch.save(content, tmp_path / "conformer.pth")
    tiny.load_backbone(tmp_path / "conformer.pth")
    assert torch.equal(tiny.conv_trans_2.trans_block.attn.qkv.weight, state["conv_trans_2.trans_block.attn.qkv.weight"])
    assert torch.equal(tiny.cls_token, state["cls_token"])
    assert torch.equal(tiny.conv_cls_head.weight, head)


def test_wrong_weights_are_refused_with_what_was_expected_and_found(tiny, tmp_path):
    state = imagenet_like(tiny)
    state["trans_norm.weight"] = torch.rand(576)
    del state["cls_token"]
    state["patch_embed.weight"] = torch.rand(3)
    torch.save(state, tmp_path / "other.pth")
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    with pytest.raises(InputError) as error:
        tiny.load_backbone(tmp_path / "other.pth")
    for part in ("other.pth", "missing: cls_token", "not known here: patch_embed.weight", "[576], expected [96]"):
        assert part in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_checkpoint_goes_round(tiny, tmp_path):
    classes = load_classes()
    checkpoint.save(tmp_path / "last.pth", classifier_content(tiny, classes))
    net, table = load_classifier(tmp_path / "last.pth")
    assert table == classes and not net.training
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net(images).cam, tiny(images).cam)
    with pytest.raises(InputError, match="trained on"):
        load_classifier(tmp_path / "last.pth", load_classes(num_classes=5))


def test_published_bare_parameters_load(tiny, tmp_path):
    torch.save(tiny.state_dict(), tmp_path / "transcam.pth")
    net, table = load_classifier(tmp_path / "transcam.pth")
    assert isinstance(net, TransCAM) and len(table) == 21
    torch.testing.assert_close(net.conv_cls_head.weight, tiny.conv_cls_head.weight)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="Expected 718 parameters, found 1"):
        load_classifier(tmp_path / "other.pth")
