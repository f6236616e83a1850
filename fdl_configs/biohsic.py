"""The config `biohsic` and its fiddlers: data sets, learners, and the form of working memory.

A data set and a learner can be given in either order: what depends on both is set by `_settle`,
which each of them calls.

Paper: Daruwalla & Lipasti 2024
Results: experiments/biohsic/RESULTS.md
"""

import fiddle as fdl
import optax

from hfjax.data import labelled
from hfjax.models import biohsic as model
from hfjax.training.experiment import Headline
from hfjax.training.run import Experiment

# Published test accuracy of a data set and learner, with hidden layers.
PUBLISHED = {
    ("mnist", "biological_rule"): 0.917,
    ("mnist", "back_propagation"): 0.975,
    ("cifar10", "biological_rule"): 0.599,
    ("cifar10", "back_propagation"): 0.791,
}


def biohsic() -> fdl.Config:
    """Layers that learn by a three-factor Hebbian rule for the information bottleneck: MNIST.

        python -m hfjax --fdl_config=biohsic --workdir=runs/biohsic

    As published: MLP [128, 64], windows of 6 that slide by one, 25 epochs: some 4 minutes on one
    CPU core, at 0.1 ms a window. Ten seeds have 92.0 % of the test digits (quartiles 91.8-93.1;
    published 91.7). Seed 0, the default, is the third lowest of them (91.8; 92.0 by itself).
    The files are downloaded once; elsewhere name their folder by --data_dir=FOLDER.
    Fiddlers: one data set (laptop, digits, mnist_10k, fashion_mnist, cifar10, cifar10_mlp), one
    learner (hsic_gradient, back_propagation, single_layer), cnn, online.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            network=fdl.Config(model.mlp, hidden=(128, 64)),
            learner=model.biological_rule,
            optimizer=fdl.Config(
                optax.adamw, learning_rate=1e-4, b1=0.9, b2=0.99, weight_decay=1e-4
            ),
            memory=fdl.Config(model.sliding_windows, window=6, stride=1),
            bottleneck=fdl.Config(
                model.Bottleneck, gamma=2.0, sigma_x=0.5, sigma_y=0.1, sigma_z=1.0
            ),
            encode=model.pixels,
            augment=model.no_augmentation,
            steps_per_epoch=65,
        ),
        data=fdl.Config(labelled.mnist, data_dir=None),
        num_steps=25 * 65,
        chunk=13,
        eval_every=65,
        save_every=65,
        show=("loss", "test_accuracy"),
        headline=(
            _test_accuracy(PUBLISHED["mnist", "biological_rule"], "mnist", "biological_rule"),
            fdl.Config(Headline, name="eval/train_accuracy"),
        ),
    )


# --- Data sets ---


def laptop(cfg: fdl.Config) -> None:
    """biohsic on the digits that come with scikit-learn: nothing to download, half a minute.

    python -m hfjax --fdl_config=biohsic --fiddler=laptop --workdir=runs/biohsic_laptop
    """
    digits(cfg)


def digits(cfg: fdl.Config) -> None:
    """biohsic on 1797 digits of 8 x 8 pixels, which come with scikit-learn; 25 epochs.

    Expect 95.3 % of the test digits (quartiles of 30 seeds 94.7-95.6); seed 0, the default, has the
    median.
    """
    cfg.data = fdl.Config(labelled.digits, num_train=1500)
    _settle(cfg)


def mnist_10k(cfg: fdl.Config) -> None:
    """biohsic on the 10,000 test images of MNIST alone, 8,500 of them for training; 25 epochs.

    A minute on one CPU core. Expect 92 % of the other 1,500; by back_propagation 95 %.
    """
    cfg.data = fdl.Config(labelled.mnist_10k, data_dir=None, num_train=8500)
    _settle(cfg)


def fashion_mnist(cfg: fdl.Config) -> None:
    """biohsic on Fashion-MNIST, with the constants of MNIST, as published."""
    cfg.data = fdl.Config(labelled.fashion_mnist, data_dir=None)
    _settle(cfg)


def cifar10(cfg: fdl.Config) -> None:
    """biohsic on CIFAR-10 with the convolutional network, crops and flips, as published; 50 epochs.

    Published: 59.9 % of the test images. At 12 ms a window on one CPU core 50 epochs take eight
    hours; we have run five of them: 59.2 % (JPEG copies, `matmul_precision=bfloat16`).
    """
    _cifar10(cfg, fdl.Config(model.cnn, channels=(128, 256)))


def cifar10_mlp(cfg: fdl.Config) -> None:
    """biohsic on CIFAR-10 with an MLP of [5120, 3072, 1024, 512]; otherwise as cifar10."""
    _cifar10(cfg, fdl.Config(model.mlp, hidden=(5120, 3072, 1024, 512)))


def _cifar10(cfg: fdl.Config, network: fdl.Config) -> None:
    cfg.data = fdl.Config(labelled.cifar10, data_dir=None)
    task, bottleneck = cfg.task, cfg.task.bottleneck
    if task.network != _NO_HIDDEN_LAYER:
        task.network = network
    task.encode, task.augment = model.cifar_pixels, model.crop_and_flip
    bottleneck.gamma = 50.0
    bottleneck.sigma_x, bottleneck.sigma_y, bottleneck.sigma_z = 1.0, 0.1, 0.5
    task.num_hsic = 64
    _settle(cfg)


def cnn(cfg: fdl.Config) -> None:
    """biohsic with a convolutional network, [16, 32] channels as the original's; [128, 256] there.

    On MNIST and Fashion-MNIST the paper has no result for it.
    """
    if fdl.get_callable(cfg.task.network) is not model.cnn:
        cfg.task.network = fdl.Config(model.cnn, channels=(16, 32))


# --- Learners, and the form of working memory ---

_NO_HIDDEN_LAYER = fdl.Config(model.mlp, hidden=())


def hsic_gradient(cfg: fdl.Config) -> None:
    """biohsic by the gradient of each layer's own HSIC objective, over batches of six."""
    cfg.task.learner = model.hsic_gradient
    _settle(cfg)


def back_propagation(cfg: fdl.Config) -> None:
    """biohsic by back-propagation, over batches: of six at lr 1e-3; CIFAR-10 of 16 at 5e-4."""
    cfg.task.learner = model.back_propagation
    _settle(cfg)


def single_layer(cfg: fdl.Config) -> None:
    """biohsic as a single linear layer, learning as in back_propagation."""
    cfg.task.network = fdl.Config(model.mlp, hidden=())
    back_propagation(cfg)


def online(cfg: fdl.Config) -> None:
    """biohsic with the window as a ring buffer in the state: one sample in, one update out."""
    fdl.update_callable(cfg.task.memory, model.ring_buffer)


def _published(cfg: fdl.Config) -> fdl.Config:
    """The test accuracy, and what is published for this data set and learner."""
    data = "cifar10" if fdl.get_callable(cfg.data) is labelled.cifar10 else "mnist"
    learner = cfg.task.learner.__name__
    return _test_accuracy(PUBLISHED.get((data, learner)), data, learner)


def _test_accuracy(published: float | None, data: str, learner: str) -> fdl.Config:
    network = {"network": "cnn"} if data == "cifar10" else {"network.hidden": (128, 64)}
    return fdl.Config(
        Headline,
        name="eval/test_accuracy",
        published=published,
        source="Daruwalla & Lipasti 2024",
        at={"data": data, "task.learner": learner}
        | {f"task.{name}": value for name, value in network.items()},
    )


def _settle(cfg: fdl.Config) -> None:
    """Set what depends on both data set and learner: learning rate, windows, length of the run.

    The rule's windows slide by one; those of the other learners are disjoint batches, of which an
    epoch has fewer, so that it is divided into at most 45 steps.
    """
    task, data = cfg.task, fdl.get_callable(cfg.data)
    cifar, rule = data is labelled.cifar10, task.learner is model.biological_rule
    rate, window = (5e-5, 6) if cifar else (1e-4, 6)
    if task.learner is model.back_propagation:
        rate, window = (5e-4, 16) if cifar else (1e-3, 6)
    task.optimizer.learning_rate = rate
    task.memory.window, task.memory.stride = window, 1 if rule else window
    cfg.headline = (_published(cfg), *cfg.headline[1:])
    steps = 495 if cifar else 5 if data in (labelled.digits, labelled.mnist_10k) else 65
    steps = steps if rule else min(steps, 45)
    task.steps_per_epoch = cfg.eval_every = cfg.save_every = steps
    cfg.num_steps = (50 if cifar else 25) * steps
    cfg.chunk = next(n for n in range(min(15, steps), 0, -1) if steps % n == 0)
