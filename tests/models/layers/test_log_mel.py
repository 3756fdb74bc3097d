"""Sound as a picture: where a tone stands in it, and what does not change it."""

import pytest
import torch
from torch import Tensor

from pipeline.models.layers.log_mel import BANDS, LogMel
from pipeline.models.linear import SoftmaxRegression
from pipeline.models.network import Network, spec_for_model
from pipeline.spec import DataSpec

RATES = (4000, 8000, 11_025, 16_000, 22_050, 44_100, 48_000)
SPEC = DataSpec(
    name="words",
    kind="audio",
    task="multiclass",
    input_shape=(8000,),
    class_names=("a", "b", "c"),
    mean=(),
    std=(),
    sample_rate=8000,
)


def tone(hertz: float, rate: int = 8000, loudness: float = 10_000) -> Tensor:
    """(S,) int16, a second of it."""
    return (loudness * torch.sin(2 * torch.pi * hertz * torch.arange(rate) / rate)).to(torch.int16)


@pytest.mark.parametrize("rate", RATES)
def test_at_any_rate_a_picture_has_as_many_bands_and_a_hundred_frames_a_second(rate: int) -> None:
    layer = LogMel(sample_rate=rate)
    shown = layer(torch.stack([tone(440, rate), tone(1500, rate)]))
    assert tuple(shown.shape[1:]) == LogMel.shape(rate, sample_rate=rate)
    assert shown.shape[2] == BANDS and shown.shape[3] in (101, 102)
    assert (layer.bands.sum(dim=1) > 0).all()  # no band falls between two frequencies
    heights = shown.squeeze(1).mean(dim=2).argmax(dim=1)
    assert heights[0] < heights[1]


@pytest.mark.parametrize("samples", [1, 79, 80, 81, 200, 8000])
def test_its_shape_is_known_before_of_sounds_of_any_length(samples: int) -> None:
    shown = LogMel(sample_rate=8000)(torch.ones(2, samples, dtype=torch.int16))
    assert tuple(shown.shape[1:]) == LogMel.shape(samples, sample_rate=8000)


def test_each_sample_has_mean_0_and_deviation_1_however_loud_it_is_and_silence_zeros() -> None:
    speech = (tone(300).float() * torch.linspace(0.1, 1, 8000) + tone(1100)).to(torch.int16)
    quiet = (speech / 10).to(torch.int16)
    shown = LogMel(sample_rate=8000)(torch.stack([speech, quiet, torch.zeros_like(speech)]))
    torch.testing.assert_close(shown[:2].mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(shown[:2].std(dim=(1, 2, 3), correction=0), torch.ones(2), atol=1e-3, rtol=0)
    assert (shown[0] - shown[1]).abs().mean() < 0.1
    assert not shown[2].any()


def test_a_spectrogram_is_taken_as_it_is_and_a_waveform_may_have_been_changed_to_floats() -> None:
    layer, sounds = LogMel(sample_rate=8000), torch.stack([tone(440), tone(880)])
    shown = layer(sounds)
    assert layer(shown) is shown
    torch.testing.assert_close(layer(sounds.float()), shown)


def test_low_precision_around_it_changes_nothing() -> None:
    layer, sounds = LogMel(sample_rate=8000), torch.stack([tone(440), tone(880)])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(sounds), layer(sounds))
        found = layer(sounds)
    assert found.dtype == torch.float32 and torch.equal(found, layer(sounds))


def test_a_model_is_built_for_the_picture_and_the_network_takes_the_waveform() -> None:
    seen = spec_for_model(SPEC)
    assert seen.input_shape == (1, 40, 101) and seen.kind == "audio"
    network = Network(body=SoftmaxRegression(spec=seen), spec=SPEC)
    assert network(torch.stack([tone(440), tone(880)])).shape == (2, 3)
    assert not [name for name in network.state_dict() if name.startswith("standardize")]


def test_it_is_exported_with_the_network_for_batches_of_any_size() -> None:
    network = Network(body=SoftmaxRegression(spec=spec_for_model(SPEC)), spec=SPEC).eval()
    sounds = torch.stack([tone(hertz) for hertz in (200, 400, 800, 1600, 3200)])
    exported = torch.export.export(network, (sounds[:2],), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    torch.testing.assert_close(exported(sounds), network(sounds))
