"""Parameters of networks from whatever file they came in: where they are nested, what they are called, whether they fit."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from models.common.hub import hub_downloads
from models.common.preprocessing import Normalization
from util.data.voc import ClassTable
from util.runtime import checkpoint
from util.runtime.errors import InputError

State = dict[str, Tensor]
_NESTS = ("model", "state_dict", "model_state_dict", "net", "network")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def names_file(weights: str) -> bool:
    """Whether ``--encoder-weights`` is a file, and not the name of published weights such as ``imagenet``."""
    path = Path(weights)
    return bool(path.suffix) or len(path.parts) > 1 or path.is_file()


def check_encoder(encoder: str, weights: str) -> None:
    """Check names before anything is built or downloaded.

    Args:
        weights: as ``--encoder-weights``: a file, which is not looked at, the name of published weights, or none.

    Raises:
        InputError: if the encoder, or its published weights, do not exist.
    """
    known = smp.encoders.encoders
    if encoder not in known:  # those of timm have weights without names
        name = encoder.removeprefix("tu-").removeprefix("timm-")
        if name == encoder or not any(map(timm.is_model, (name, f"tf_{name}"))):
            raise unknown_encoder(encoder, [*known, *(f"tu-{other}" for other in timm.list_models())])
        return
    published = known[encoder]["pretrained_settings"] or {}
    if weights != "none" and not names_file(weights) and weights not in published:
        raise InputError(
            f"--encoder-weights {weights}: neither a file nor published weights of {encoder}; give one of "
            f"{', '.join([*published, 'none'])}, or a file"
        )


def unknown_encoder(encoder: str, known: Iterable[str]) -> InputError:
    """What to say of an encoder that does not exist, with names that are like it."""
    known = list(known)
    ours = [f"tu-{encoder}"] if f"tu-{encoder}" in known else []  # timm's, without the prefix that they have here
    similar = ours or difflib.get_close_matches(encoder, known)
    return InputError(
        f"--encoder {encoder}: not an encoder of segmentation-models-pytorch; "
        + (f"similar names: {', '.join(similar)}" if similar else "such are mobilenet_v2, resnet50 and resnet101")
    )


@contextlib.contextmanager
def download_in_words(encoder: str, weights: str | None) -> Iterator[None]:
    """Turns an unknown encoder, and a failed download of its published weights, into an InputError that says so."""
    try:
        with hub_downloads():
            yield
    except KeyError as error:
        if "Wrong encoder name" not in str(error):
            raise
        raise unknown_encoder(encoder, smp.encoders.get_encoder_names()) from None
    except InputError:
        raise
    except Exception as error:
        network = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in network:
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"--encoder-weights {weights}: the published weights of {encoder} could not be downloaded ({reason}); check "
            "the network and re-run, or give a file that was downloaded elsewhere: --encoder-weights FILE"
        ) from None


def is_own(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is a checkpoint of this project, of any version."""
    return {"config", "classes", "model"} <= content.keys()


def described(
    kind: str,
    config: Mapping[str, Any],
    model: Mapping[str, Tensor],
    classes: ClassTable,
    normalization: Normalization,
    score: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a checkpoint holds of a network, so that it can be used from the file alone.

    Args:
        kind, config: of the network, and what it is built from.
        model: its state dict.
        classes, normalization: what it was trained on.
        score: of the held-out images, or None.
    """
    return {
        "schema": checkpoint.SCHEMA,
        "kind": kind,
        "config": dict(config),
        "classes": list(classes.names),
        "palette": [list(color) for color in classes.colors],
        "normalization": normalization.content,
        "score": score,
        "model": dict(model),
    }


def plain_state(content: Mapping[Any, Any], source: str) -> State:
    """The parameters inside the checkpoint ``source``: bare, or nested under ``model``, ``state_dict`` and the like.

    Raises:
        InputError: if they may be those of several networks.
    """
    nests = [name for name in _NESTS if isinstance(content.get(name), Mapping)]
    if not nests and not any(isinstance(value, Tensor) for value in content.values()):
        nests = [name for name, value in content.items() if isinstance(value, Mapping) and _holds_tensors(value)]
        if len(nests) > 1:
            raise InputError(
                f"{source}: it holds several networks, under {', '.join(map(str, nests[:6]))}; save the one that is meant "
                "alone, by torch.save(content[NAME], FILE)"
            )
    if nests:
        return plain_state(content[nests[0]], source)
    state = {str(name): value for name, value in content.items() if name != "n_averaged"}  # of AveragedModel
    for wrapper in _WRAPPERS * 2:
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def _holds_tensors(content: Mapping[Any, Any], depth: int = 3) -> bool:
    """Whether these may be parameters, and not an optimiser's state, whose keys are numbers."""
    return any(
        isinstance(name, str)
        and (
            isinstance(value, Tensor) or (depth > 0 and isinstance(value, Mapping) and _holds_tensors(value, depth - 1))
        )
        for name, value in content.items()
    )


def load_encoder(encoder: nn.Module, content: Mapping[str, Any], source: str) -> None:
    """Load the parameters of an encoder from a file's content, under whatever name it has there.

    It may be bare or a part of a larger network (``encoder.``, ``backbone.``); a timm network may lack the ``model.`` that
    the wrapper of ``tu-`` encoders adds, and have ``stages.0`` where that has ``stages_0``. Heads are left out.

    Args:
        source: what to call the file in messages.

    Raises:
        InputError: if parameters are missing, of another shape, or if some of the encoder's modules have more than it has.
    """
    expected = encoder.state_dict()
    state = _renamed(plain_state(content, source), expected)
    # Old files lack the counters, which nothing uses.
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    state = {**counters, **state}
    check_state(state, expected, source)
    nn.Module.load_state_dict(encoder, state)


def _renamed(state: State, expected: Mapping[str, Tensor]) -> State:
    """The part of a state that belongs to an encoder, under the encoder's names."""
    wrapped = all(name.startswith("model.") for name in expected)
    best: State = {}
    most = -1
    for own_prefix in ("", "model.") if wrapped else ("",):
        wanted = {_canonical(name.removeprefix(own_prefix)): name for name in expected}
        modules = {name.partition(".")[0] for name in wanted}
        for prefix in _prefixes(state):
            part = {_canonical(name.removeprefix(prefix)): name for name in state if name.startswith(prefix)}
            hits = len(part.keys() & wanted.keys())
            if hits > most:
                # What is over inside of a module that both have is a sign of another network; other modules are heads.
                kept = [name for name in part if name in wanted or name.partition(".")[0] in modules]
                best, most = {wanted.get(name, name): state[part[name]] for name in kept}, hits
    return best if most else state


def _canonical(name: str) -> str:
    # timm's features_only networks say stages_0 for stages.0.
    return re.sub(r"_(\d+)(?=\.)", r".\1", name)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Leading parts of names, up to three deep, the shortest first."""
    found = {""}
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:depth]) + "." for depth in range(1, min(4, len(parts)))}
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def load_encoder_file(encoder: nn.Module, path: str, name: str) -> Mapping[str, Any]:
    """`load_encoder` from a file, whose content is returned.

    Raises:
        InputError: as `load_encoder`, or if the file cannot be read.
    """
    content = checkpoint.load(path)
    load_encoder(encoder, content, f"{path} for the encoder {name}")
    return content


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Check that a state dict has the expected names and shapes, and no others.

    Raises:
        InputError: listing what is missing, over, or of another shape.
    """
    missing = [name for name in expected if name not in state]
    over = [name for name in state if name not in expected]
    other = [
        f"{name} is {_shape(state[name])}, expected {_shape(expected[name])}"
        for name in expected
        if name in state and _shape(state[name]) != _shape(expected[name])
    ]
    if missing or over or other:
        kinds = (("missing", missing), ("not known here", over), ("other shapes", other))
        found = "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds if names)
        raise InputError(
            f"{source}: these weights belong to another network. Expected {len(expected)} parameters, found "
            f"{len(state)}; {found}. Give the weights of this network, or change its size or encoder"
        )


def _shape(value: object) -> list[int] | str:
    return list(value.shape) if hasattr(value, "shape") else type(value).__name__


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
