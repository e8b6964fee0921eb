"""Class names of public data sets, so that costs can be computed without data."""

import pathlib

import ml_collections

from data_pipeline import annotations
from data_pipeline.demo.plan import CLASS_NAMES
from svtas_jax.errors import InputError, MissingInputError

# In the order of the mapping files that the authors of MS-TCN published.
_NAMES = {
    "gtea": CLASS_NAMES,
    "50salads": tuple(
        "cut_tomato place_tomato_into_bowl cut_cheese place_cheese_into_bowl "
        "cut_lettuce place_lettuce_into_bowl add_salt add_vinegar add_oil add_pepper "
        "mix_dressing peel_cucumber cut_cucumber place_cucumber_into_bowl add_dressing "
        "mix_ingredients serve_salad_onto_plate action_start action_end".split()
    ),
    "breakfast": tuple(
        "SIL pour_cereals pour_milk stir_cereals take_bowl pour_coffee take_cup "
        "spoon_sugar stir_coffee pour_sugar pour_oil crack_egg add_saltnpepper fry_egg "
        "take_plate put_egg2plate take_eggs butter_pan take_knife cut_orange "
        "squeeze_orange pour_juice take_glass take_squeezer spoon_powder stir_milk "
        "spoon_flour stir_dough pour_dough2pan fry_pancake put_pancake2plate "
        "pour_flour cut_fruit put_fruit2bowl peel_fruit stir_fruit cut_bun "
        "smear_butter take_topping put_toppingOnTop put_bunTogether take_butter "
        "stir_egg pour_egg2pan stirfry_egg add_teabag pour_water stir_tea".split()
    ),
}
# Names differ between publications of EGTEA Gaze+; their number does not.
_NUM_CLASSES = {"egtea": 20}


def class_names_of(data_config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the classes of a data set, even if its files are missing.

    Raises:
        InputError: if its mapping.txt does not name the classes of the public data set
            of this name.
        MissingInputError: if its files are missing and its classes are unknown.
    """
    dataset = data_config.dataset
    known = _known(dataset)
    if not pathlib.Path(data_config.root).is_dir():
        if known is None:
            raise MissingInputError(
                f"The data folder {data_config.root} (config.data.root) does not exist "
                f"and the classes of {dataset!r} are not known, only those of "
                f"{', '.join(sorted(_NAMES | _NUM_CLASSES))}. Set --config.data.root."
            )
        return known
    names = annotations.class_names(data_config)
    public = _NAMES.get(dataset)
    if public is not None and set(names) != set(public):
        odd = sorted(set(names) ^ set(public))
        raise InputError(
            f"{data_config.root}/mapping.txt does not name the classes of {dataset!r}: "
            f"{', '.join(odd[:3])}. If these are other data, give them another "
            "--config.data.dataset."
        )
    return names


def _known(dataset: str) -> tuple[str, ...] | None:
    if dataset in _NAMES:
        return _NAMES[dataset]
    if dataset == "demo":
        return CLASS_NAMES
    if dataset in _NUM_CLASSES:
        return tuple(f"action {k}" for k in range(_NUM_CLASSES[dataset]))
    return None
