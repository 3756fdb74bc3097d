"""The models and the network that scales for them: shapes, formats, and what they refuse."""

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.cnn import CNN
from pipeline.models.layers.activation import ACTIVATIONS, make_activation
from pipeline.models.lenet5 import LeNet5
from pipeline.models.linear import LinearRegression, LogisticRegression, Perceptron, SoftmaxRegression
from pipeline.models.mlp import MLP
from pipeline.models.network import Network, Standardize
from pipeline.models.resnet import ResNet
from pipeline.models.vit import ViT, sincos_positions
from pipeline.spec import DataSpec


def spec(shape: tuple[int, ...] = (1, 28, 28), classes: int = 10, **changes: Any) -> DataSpec:
    channels = shape[0]
    facts: dict[str, Any] = {"mean": (33.0,) * channels, "std": (78.0,) * channels, "task": "multiclass"}
    names = tuple(f"class {number}" for number in range(classes))
    return DataSpec(name="digits", kind="image", input_shape=shape, class_names=names, **(facts | changes))


def cnn(described: DataSpec, **changes: Any) -> CNN:
    settings: dict[str, Any] = {"widths": [8, 16], "depth": 1, "activation": "relu", "dropout": 0.0}
    return CNN(spec=described, **(settings | changes))


def mlp(described: DataSpec, **changes: Any) -> MLP:
    settings: dict[str, Any] = {"widths": [32], "activation": "relu", "batch_norm": True, "dropout": 0.0}
    return MLP(spec=described, **(settings | changes))


def raw(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


class TestCNN:
    @pytest.mark.parametrize(
        "shape, widths, depth", [((1, 28, 28), [8], 1), ((1, 28, 28), [4, 8, 8, 8], 2), ((3, 17, 9), [4, 4, 4], 1)]
    )
    def test_scores_any_images_at_any_depth(self, shape: tuple[int, ...], widths: list[int], depth: int) -> None:
        described = spec(shape, classes=7)
        network = Network(body=cnn(described, widths=widths, depth=depth), spec=described)
        assert network(raw(5, shape)).shape == (5, 7)
        convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
        assert len(convolutions) == depth * len(widths)

    def test_too_many_blocks_are_refused_with_how_many_fit(self) -> None:
        with pytest.raises(ConfigError, match=r"halves 28x28 images 5 times and leaves nothing: use at most 4 blocks"):
            cnn(spec(), widths=[4] * 5)
        cnn(spec(), widths=[4] * 4)

    def test_what_is_no_image_is_sent_to_the_mlp(self) -> None:
        with pytest.raises(ConfigError, match=r"digits has inputs of shape \(30,\): use model=mlp"):
            cnn(spec((30,), mean=(0.0,) * 30, std=(1.0,) * 30))

    def test_channels_last_changes_the_speed_and_not_the_scores(self) -> None:
        described = spec((3, 16, 16))
        torch.manual_seed(0)
        body = cnn(described)
        plain = nn.Sequential(Standardize(mean=described.mean, std=described.std, input_shape=(3, 16, 16)), body)
        images = raw(8, (3, 16, 16))
        expected = plain(images)
        network = Network(body=body, spec=described)
        kernel = body.blocks[0][0].weight
        assert network.channels_last and kernel.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


class TestDenseModels:
    @pytest.mark.parametrize("shape", [(1, 28, 28), (3, 4, 4), (5,)])
    def test_take_inputs_of_any_shape(self, shape: tuple[int, ...]) -> None:
        described = spec(shape, classes=3)
        for body in (mlp(described), SoftmaxRegression(spec=described)):
            network = Network(body=body, spec=described)
            assert network(raw(4, shape)).shape == (4, 3)
            assert not network.channels_last

    def test_an_mlp_without_hidden_layers_is_softmax_regression(self) -> None:
        sizes = [
            [p.shape for p in each.parameters()] for each in (mlp(spec(), widths=[]), SoftmaxRegression(spec=spec()))
        ]
        assert sizes[0] == sizes[1] == [(10, 784), (10,)]

    def test_batch_norm_replaces_the_bias_before_it(self) -> None:
        assert [layer.bias is None for layer in linear_layers(mlp(spec(), batch_norm=True))] == [True, False]
        assert [layer.bias is None for layer in linear_layers(mlp(spec(), batch_norm=False))] == [False, False]


class TestLeNet5:
    def test_has_as_many_weights_as_are_told_of_it(self) -> None:
        body = LeNet5(spec=spec(), activation="tanh", dropout=0.0)
        assert sum(each.numel() for each in body.parameters()) == 61_706

    @pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (1, 40, 17)])
    def test_takes_images_from_12x12_on(self, shape: tuple[int, ...]) -> None:
        described = spec(shape)
        network = Network(body=LeNet5(spec=described, activation="tanh", dropout=0.0), spec=described)
        assert network(raw(3, shape)).shape == (3, 10)

    def test_smaller_ones_and_tables_are_refused_with_what_takes_them(self) -> None:
        with pytest.raises(ConfigError, match=r"12x12 or more; digits has inputs of shape \(1, 8, 8\): use model=cnn"):
            LeNet5(spec=spec((1, 8, 8)), activation="tanh", dropout=0.0)
        with pytest.raises(ConfigError, match=r"inputs of shape \(4,\): use model=mlp"):
            LeNet5(spec=spec((4,)), activation="tanh", dropout=0.0)


class TestResNet:
    @pytest.mark.parametrize("depth, layers, weights", [(3, 20, 0.27e6), (5, 32, 0.46e6), (9, 56, 0.85e6)])
    def test_is_as_deep_and_as_large_as_in_the_paper(self, depth: int, layers: int, weights: float) -> None:
        body = resnet(spec((3, 32, 32)), widths=[16, 32, 64], depth=depth)
        in_line = [each for each in body.modules() if isinstance(each, nn.Conv2d) and each.kernel_size == (3, 3)]
        assert len(in_line) + 1 == layers == 6 * depth + 2
        assert sum(each.numel() for each in body.parameters()) == pytest.approx(weights, rel=0.02)

    @pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 1), (3, 17, 9)])
    def test_takes_images_of_any_size(self, shape: tuple[int, ...]) -> None:
        described = spec(shape)
        assert Network(body=resnet(described), spec=described)(raw(4, shape)).shape == (4, 10)


def resnet(described: DataSpec, **changes: Any) -> ResNet:
    settings: dict[str, Any] = {"widths": [4, 8], "depth": 1, "activation": "relu", "dropout": 0.0}
    return ResNet(spec=described, **(settings | changes))


class TestViT:
    @pytest.mark.parametrize("shape, patch_size, words", [((1, 28, 28), 7, 16), ((3, 17, 9), 4, 15), ((1, 3, 3), 8, 1)])
    def test_takes_images_of_any_size(self, shape: tuple[int, ...], patch_size: int, words: int) -> None:
        described = spec(shape)
        for pooling, extra in (("mean", 0), ("class_token", 1)):
            body = vit(described, patch_size=patch_size, pooling=pooling)
            assert Network(body=body, spec=described)(raw(3, shape)).shape == (3, 10)
            assert len(body.positions) == words + extra

    def test_every_place_starts_with_a_vector_of_its_own(self) -> None:
        places = sincos_positions(7, 7, 18)
        assert places.shape == (49, 18)
        assert len({tuple(place) for place in places.round(decimals=4).tolist()}) == 49

    def test_where_a_patch_stands_makes_a_difference(self) -> None:
        body = vit(spec()).eval()
        picture = torch.zeros(1, 1, 28, 28)
        picture[..., :7, :7] = 1
        assert not torch.allclose(body(picture), body(picture.roll(14, dims=3)))


def vit(described: DataSpec, **changes: Any) -> ViT:
    settings = {"patch_size": 7, "width": 16, "heads": 2, "depth": 1, "pooling": "mean", "dropout": 0.0}
    return ViT(spec=described, **(settings | changes))


class TestLinearModels:
    @pytest.mark.parametrize("model", [LinearRegression, LogisticRegression, Perceptron])
    def test_many_classes_are_sent_to_the_model_that_takes_them(self, model: type) -> None:
        with pytest.raises(ConfigError, match=r"digits has 10 classes \(multiclass\): use model=softmax_regression"):
            model(spec=spec())

    def test_two_classes_are_told_apart_by_one_score(self) -> None:
        described = spec((4,), classes=2, task="binary", mean=(0.0,) * 4, std=(1.0,) * 4)
        for model in (LogisticRegression, Perceptron):
            assert model(spec=described)(torch.randn(5, 4)).shape == (5, 1)

    def test_numbers_are_answered_in_their_own_units(self) -> None:
        facts = {"mean": (0.0,) * 4, "std": (1.0,) * 4, "target_mean": (150.0,), "target_std": (70.0,)}
        described = spec((4,), classes=0, task="regression", **facts)
        body = LinearRegression(spec=described)
        inputs = torch.randn(5, 4)
        torch.testing.assert_close(Network(body=body, spec=described)(inputs), body(inputs) * 70 + 150)


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


class TestStandardize:
    def test_raw_pixels_come_out_with_mean_0_and_deviation_1_in_each_channel(self) -> None:
        images = raw(64, (2, 8, 8)) // torch.tensor([1, 4], dtype=torch.uint8).view(2, 1, 1)
        over = (0, 2, 3)
        mean, std = images.float().mean(over), images.float().std(over, correction=0)
        scaled = Standardize(mean=mean.tolist(), std=std.tolist(), input_shape=(2, 8, 8))(images)
        assert scaled.dtype == torch.float32
        torch.testing.assert_close(scaled.mean(over), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(scaled.std(over, correction=0), torch.ones(2), atol=1e-5, rtol=0)

    def test_a_channel_that_never_varies_is_only_shifted(self) -> None:
        images = torch.full((2, 1, 3, 3), 7, dtype=torch.uint8)
        assert torch.equal(Standardize(mean=[7.0], std=[0.0], input_shape=(1, 3, 3))(images), torch.zeros(2, 1, 3, 3))

    def test_the_scaling_travels_with_the_weights_and_is_not_trained(self) -> None:
        layer = Standardize(mean=[1.0], std=[2.0], input_shape=(1, 4))
        assert layer.state_dict().keys() == {"mean", "scale"} and list(layer.parameters()) == []

    def test_the_input_is_left_as_it_was(self) -> None:
        images = raw(2, (1, 4, 4)).float()
        before = images.clone()
        Standardize(mean=[3.0], std=[2.0], input_shape=(1, 4, 4))(images)
        assert torch.equal(images, before)


class TestActivations:
    @pytest.mark.parametrize("name", [*ACTIVATIONS, "torch.nn.Hardtanh", "torch.nn.modules.activation.CELU"])
    def test_each_name_makes_a_fresh_module(self, name: str) -> None:
        make = make_activation(name)
        assert isinstance(make(), nn.Module) and make() is not make()
        assert make()(torch.randn(3)).shape == (3,)

    @pytest.mark.parametrize(
        "name", ["rely", "os.system", "torch.nn.Nothing", "torch.nn.functional.relu", "torch.load"]
    )
    def test_what_is_no_activation_is_refused_with_those_that_are(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"is not known: use one of relu, .* or a class of torch.nn such as"):
            make_activation(name)

    @pytest.mark.parametrize("name", ["gelu", "torch.nn.Mish"])
    def test_models_take_either(self, name: str) -> None:
        for body in (cnn(spec(), activation=name), mlp(spec(), activation=name)):
            assert any(isinstance(module, nn.GELU | nn.Mish) for module in body.modules())
