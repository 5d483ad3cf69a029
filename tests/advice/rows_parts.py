"""Mistakes in the arguments of parts that are used alone, and of test sets."""

from __future__ import annotations

from tests.advice.fixtures import both, faces, text
from tests.advice.row import Row, copied, tiny
from tests.conftest import TINY, UNTESTED

_SIZE = "faces.Preprocessing(size=(32, 32))"
_TOY = "{_target_:kdface.datasets.ToyFaces,people:6,images_per_person:6,size:[32,32],split:train}"
_TEST = f"_target_:kdface.evaluation.random_verification,dataset:{_TOY},folds:2,pairs_per_fold:8,fars:[0.25]"
_FACENET = ("method=facenet", "head=none", "method.people_per_batch=2", "method.images_per_person=4")


def _python(expression: str, told: str, **more: object) -> Row:
    return Row(("python", expression), told, **more)  # type: ignore[arg-type]


def _tested(name: str, node: str, *words: str, told: str) -> Row:
    words = ("train", *UNTESTED, *words, f"+evaluation.{name}={{{node}}}")
    return Row(words, told, set_up=copied, fill={"FOLDER": "run"}, build=True)


ROWS = [
    _python("augmentations.Periocular(region='stripe')", told="not a periocular region"),
    _python(f"augmentations.Periocular().preprocessing('periocula', {_SIZE})", told="has no view"),
    _python(f"augmentations.Periocular(face_size=(32, 48)).preprocessing('face', {_SIZE})", told="would distort"),
    _python("augmentations.SyntheticMask(color='bleu')", told="not a mask dye"),
    _python("augmentations.SyntheticMask(shapes=('surgicl',))", told="no mask is called"),
    _python(
        "augmentations.SyntheticMask(probability=1.0)(faces.Sample(np.zeros((32, 32, 3), np.uint8), 0, 'a', "
        "np.full((5, 2), 99.0)), np.random.default_rng(0))",
        told="lie outside the image",
        fill={"DATASET": "toy_faces dataset.people=2 dataset.images_per_person=2 dataset.size=[32,32]"},
    ),
    _python(
        "backbones.iresnet_nano(8, image_size=(32, 32)).with_maps(torch.zeros(2, 3, 32, 32), ['layr1'])",
        told="has no stage",
    ),
    _python(
        "datasets.Seen(datasets.ToyFaces(2, 2, size=(32, 32)), augmentations.SyntheticMask(), 'maskd')",
        told="has no such view",
    ),
    _python(
        "datasets.ImagesPerPerson(datasets.ToyFaces(2, 4, size=(32, 32)), number=4, held_out=2)",
        told="leaves nobody",
    ),
    _python("datasets.PeopleWith(datasets.ToyFaces(2, 4, size=(32, 32)), images=5)", told="leaves 0 people"),
    _python(
        "evaluation.edc.error_discard(np.arange(6) / 6, np.array([1, 1, 1, 0, 0, 0], bool), np.arange(6) / 6, "
        "evaluation.edc.DiscardPolicy(fmr=0.01))",
        told="cannot resolve a false match rate",
    ),
    # the same on the command line: a part's own argument is told by its full key
    Row(
        (
            *("train", *UNTESTED, "augmentation=periocular", "augmentation.face_size=[32,48]"),
            "method.views.student=face",
        ),
        "would distort",
        build=True,
    ),
    Row(
        (
            *("train", *(word for word in UNTESTED if not word.startswith("dataset")), "dataset=pins90_20"),
            *("dataset.dataset.dataset={_target_:kdface.datasets.ToyFaces,people:4,images_per_person:4,size:[32,32]}",),
            *("dataset.dataset.number=4", "dataset.dataset.held_out=2", "dataset.size=[32,32]"),
        ),
        "leaves nobody",
        build=True,
    ),
    Row(
        ("train", *UNTESTED, "trainer.max_steps=1", "augmentation=stored_periocular", "method.views.student=face"),
        "stores no periocular image",
        run=True,
    ),
    # test sets
    _tested(
        "people", f"_target_:kdface.evaluation.Calibration,dataset:{_TOY}", *_FACENET, told="not a softmax over all"
    ),
    _tested(
        "folds",
        f"_target_:kdface.evaluation.fold_identification,dataset:{_TOY},folds:2,compare:logits,mirror:false",
        *_FACENET,
        told="compares logits",
    ),
    _tested(
        "folds",
        f"_target_:kdface.evaluation.fold_identification,dataset:{_TOY},folds:2,compare:logits,mirror:true",
        told="does not support mirror",
    ),
    _tested("few", _TEST.replace("folds:2", "folds:40"), told="pairs of the same person and"),
    _tested("few", _TEST.replace("pairs_per_fold:8", "pairs_per_fold:400"), told="pairs of the same person and"),
    _tested(
        "few",
        _TEST.replace("folds:2,pairs_per_fold:8", "folds:60,pairs_per_fold:200").replace("person:6", "person:2"),
        told="pairs of the same person and",
    ),
    _tested("few", _TEST.replace("folds:2,pairs_per_fold:8,", ""), told="pairs of the same person and"),
    _tested(
        "few", f"_target_:kdface.evaluation.fold_identification,dataset:{_TOY},folds:7", told="for each of 7 folds"
    ),
    _tested("graded", f"_target_:kdface.evaluation.QualityEDC,test:{{{_TEST}}}", told="gives none"),
    tiny("evaluation.toy_pairs.dataset.peple=8", told="unknown key"),
    # lists of pairs
    _python(
        "evaluation.pairs.read_lfw_pairs('pairs.txt')",
        told="is not UTF-8",
        set_up=text("pairs.txt", "2\nKäthe\t1\t2\nBo\t1\t2\nKäthe\t1\tBo\t1\nKäthe\t2\tBo\t1\n", "latin-1"),
    ),
    _python(
        "evaluation.Verification(datasets.ToyFaces(2, 2, size=(32, 32)), "
        "evaluation.PairList(('toy/1.jpg',), ('nobody/1.jpg',), np.array([True]), None))",
        told="are not in",
    ),
    # people and images by name
    Row(
        (
            "train",
            *(word for word in TINY[7:] if not word.startswith("evaluation")),
            "evaluation=none",
            "dataset=image_folder",
            "dataset.root=faces",
            "dataset.size=[32,32]",
            "+dataset.people=[p0,p1,q2]",
        ),
        "has no person",
        set_up=both(faces),
        build=True,
    ),
]
