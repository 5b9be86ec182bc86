"""Pixel-adaptive refinement: what smoothing by colour must keep, and what it must improve."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from models.common import refine
from models.common.refine import pixel_adaptive_refinement, refine_maps


def two_colors(height=40, width=48, border=20):
    """A image with a vertical edge, float 1x3xHxW in 0..255."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, height, width) * 4 + 60
    image[:, :, :, border:] += 120
    return image


def test_a_constant_map_stays_and_the_range_is_kept():
    image = two_colors()
    maps = torch.stack([torch.full(image.shape[2:], 0.3), torch.rand(image.shape[2:])])[None]
    refined = pixel_adaptive_refinement(image, maps)
    torch.testing.assert_close(refined[0, 0], maps[0, 0], atol=1e-5, rtol=0)
    assert refined[0, 1].min() >= maps[0, 1].min() - 1e-5
    assert refined[0, 1].max() <= maps[0, 1].max() + 1e-5
    assert refined[0, 1].std() < 0.5 * maps[0, 1].std()


def test_it_is_linear_so_classes_can_be_refined_apart():
    image = two_colors()
    first, second = torch.rand(2, 1, 1, *image.shape[2:])
    together = pixel_adaptive_refinement(image, torch.cat([first, second], dim=1))
    mixed = pixel_adaptive_refinement(image, 2 * first - second)
    torch.testing.assert_close(2 * together[:, :1] - together[:, 1:], mixed, atol=1e-5, rtol=1e-4)


def test_a_blurred_map_moves_to_the_edge_of_the_image():
    border = 20
    image = two_colors(border=border)
    columns = torch.arange(image.shape[3]).float()
    blurred = torch.sigmoid((columns - border - 4) / 6).expand(1, 1, image.shape[2], -1)
    truth = (columns >= border).expand_as(blurred)

    def wrong(maps):
        return ((maps > 0.5) != truth).float().mean().item()

    refined = pixel_adaptive_refinement(image, blurred)
    step = (refined[..., border + 2] - refined[..., border - 3]).mean()
    assert step > 2 * (blurred[..., border + 2] - blurred[..., border - 3]).mean()
    assert wrong(refined) < 0.5 * wrong(blurred)


def test_sizes_must_agree():
    image = two_colors()
    maps = torch.rand(1, 2, *image.shape[2:])
    with pytest.raises(ValueError, match="differ"):
        pixel_adaptive_refinement(image, maps[..., :-1])


@pytest.mark.parametrize("shape", [(33, 47), (1, 1), (5, 300)])
def test_any_size_and_one_colour(shape):
    image = torch.full((*shape, 3), 128, dtype=torch.uint8)
    maps = torch.rand(2, *shape)
    refined = refine_maps(image, maps)
    assert refined.shape == maps.shape
    assert torch.isfinite(refined).all()
    assert refined.min() >= -1e-5 and refined.max() <= 1 + 1e-5


def test_an_image_eight_times_as_large_is_refined_alike_and_at_the_same_cost():
    rng = np.random.default_rng(0)
    small = np.kron(rng.integers(0, 256, (15, 20, 3)), np.ones((25, 25, 1))).astype(np.uint8)
    maps = torch.from_numpy(np.kron(rng.random((1, 5, 4)), np.ones((1, 75, 125)))).float()
    before, seen = refine.pixel_adaptive_refinement, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            refine, "pixel_adaptive_refinement", lambda image, *rest: seen.append(image.shape) or before(image, *rest)
        )
        large = torch.from_numpy(np.kron(small, np.ones((8, 8, 1), np.uint8)))
        enlarged = torch.nn.functional.interpolate(maps[None], scale_factor=8, mode="nearest")[0]
        one, other = refine_maps(torch.from_numpy(small), maps), refine_maps(large, enlarged)
    assert seen == [(1, 3, 188, 250)] * 2
    reduced = torch.nn.functional.interpolate(other[None], size=one.shape[1:], mode="area")[0]
    assert (reduced - one).abs().mean() < 0.01, "but for the edges, which are not at whole pixels"
