"""What a person is asked about a matching, in which order, and how an answer becomes rules.

Nothing here prints or waits: who answers is passed in. An answer is no more than rules, and after each of them the
graphs are matched again, so that what it shows need not be asked.
"""

from ckptmigrate.questioner.asked import Asked, asked_of, otherwise
from ckptmigrate.questioner.dialogue import Asker, Match, Outcome, Reply, ask_all
from ckptmigrate.questioner.file import AnswerFile
from ckptmigrate.questioner.statements import say

__all__ = [
    "AnswerFile",
    "Asked",
    "Asker",
    "Match",
    "Outcome",
    "Reply",
    "ask_all",
    "asked_of",
    "otherwise",
    "say",
]
