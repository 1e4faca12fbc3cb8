"""forebear list: the names, the table of weights, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forebear import networks
from forebear.cli.main import main
from forebear.weights.catalog import PUBLISHED


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["list", *words]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_names_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == networks()
    assert listed(capsys, "slim/*v2*") == networks("slim/*v2*")
    assert listed(capsys, "next50") == networks("*next50*")


def test_every_row_of_weights(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "--weights")
    assert lines[0] == "network tag top-1 top-5 at px licence file"
    assert len(lines) == 1 + len(PUBLISHED)


def test_weights_of_one_network(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "--weights", "torchvision/resnet50")
    assert lines[1:] == [
        "torchvision/resnet50 IMAGENET1K_V1 76.13 92.86 224 BSD-3-Clause resnet50-0676ba61.pth",
        "torchvision/resnet50 IMAGENET1K_V2 * 80.86 95.43 224 BSD-3-Clause resnet50-11ad3fa6.pth",
    ]


def test_weights_without_figures_and_weights_of_the_hub(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "keras/ResNet50 imagenet-notop - - - MIT" in listed(capsys, "--weights", "notop")[1]
    (line,) = listed(capsys, "--weights", "timm/resnetv2_50")[1:]
    assert line.endswith(
        "a1h_in1k * 81.41 95.71 288 Apache-2.0 timm/resnetv2_50.a1h_in1k/model.safetensors"
    )


def test_weights_of_a_licence_and_of_a_family(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "--weights", "--licence", "cc-by-nc*", "--family", "resnext")[1:]
    assert len(lines) == 12
    assert all("ne" in line and "CC-BY-NC-4.0" in line for line in lines)
    assert "timm/resnext101_32x48d fb_wsl_ig1b_ft_in1k *" in "\n".join(lines)
    families = {row.family for row in PUBLISHED}
    assert families == {"alexnet", "resnet", "resnet-v2", "resnext", "wide-resnet"}
    lines = listed(capsys, "--weights", "--family", "resnet-v2")[1:]
    assert {line.split("/")[0] for line in lines} == {"slim", "keras", "timm"}
    (line,) = listed(capsys, "--weights", "--licence", "-")[1:]
    assert line.startswith("timm/resnet50 bamboo")


def test_the_table_needs_no_torch() -> None:
    program = (
        "import sys\nfrom forebear.cli.main import main\nmain(['list', '--weights'])\n"
        "sys.exit(str({'torch', 'numpy', 'PIL', 'http.client'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--licence", "MIT"],
            "--licence and --family choose among published weights. Expected them with --weights.",
        ),
        (
            ["--weights", "slim/*", "--licence", "GPL"],
            "--licence 'GPL' matches none of these 6 published weights. Expected one of "
            "Apache-2.0, or a shell pattern.",
        ),
        (
            ["slim/resnet_v1_5O"],
            f"PATTERN='slim/resnet_v1_5O' matches none of the {len(networks())} networks. Expected "
            'a name or a shell pattern such as "slim/*". Did you mean',
        ),
        (
            ["--weights", "IMAGENET1K_V3"],
            f"PATTERN='IMAGENET1K_V3' matches none of the {len(PUBLISHED)} published weights. "
            'Expected a network or a tag, or a shell pattern such as "slim/*". '
            "Did you mean IMAGENET",
        ),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["list", *words]) == 2
    assert said in capsys.readouterr().err
