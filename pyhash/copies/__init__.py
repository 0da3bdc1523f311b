"""Copies of images among many: found, proved on the images themselves, and grouped; and what is done with them.

A plan says which image of a group is kept and what becomes of the others. It is carried out step by step, each looked
at again before, and an undo file brings all back.
"""

from __future__ import annotations

from .apart import told_apart
from .carrying import Carried, Done, carry_out
from .choices import Choice, Option, choices, inside_of, is_proved
from .chosen_file import holds_choices, read_choices
from .finding import RADIUS, Stock, copies_of, duplicates, find, proving
from .keeping import By, Keep, beyond_one_folder
from .overlap import Overlap, Share, overlap
from .plan_file import plan_as_json, read_plan, seen_as_json, write_plan
from .plans import Action, Left, Plan, Step, make_plan
from .script import write_script
from .seen import Seen
from .undoing import Undone, undo
from .values import Copy, Duplicates, Group, Level, Relation, Uncompared

__all__ = [
    "RADIUS",
    "Action",
    "By",
    "Carried",
    "Choice",
    "Copy",
    "Done",
    "Duplicates",
    "Group",
    "Keep",
    "Left",
    "Level",
    "Option",
    "Overlap",
    "Plan",
    "Relation",
    "Seen",
    "Share",
    "Step",
    "Stock",
    "Uncompared",
    "Undone",
    "beyond_one_folder",
    "carry_out",
    "choices",
    "copies_of",
    "duplicates",
    "find",
    "holds_choices",
    "inside_of",
    "is_proved",
    "make_plan",
    "overlap",
    "plan_as_json",
    "proving",
    "read_choices",
    "read_plan",
    "seen_as_json",
    "told_apart",
    "undo",
    "write_plan",
    "write_script",
]


def __dir__() -> list[str]:
    return __all__
