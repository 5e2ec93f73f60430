"""What one asks a model for: tasks that copy from their prompt, and free chat."""

from __future__ import annotations

Conversation = list[dict[str, str]]

_REPORT = """\
The Harbour Street library reopened on Monday after fourteen months of renovation. The building, \
which dates from 1931, has a new roof, a lift to the second floor and reading rooms for children. \
Head librarian Maria Oduya said that the number of visitors on the first day was twice as high as \
on an ordinary Monday before the renovation. The works cost 4.2 million euros, of which the city \
paid two thirds and the regional fund the rest. During the renovation the collection of 180,000 \
books was kept in a warehouse near the railway station. A new system lets readers borrow and \
return books without help, and opening hours have been extended to nine in the evening on \
weekdays. The city council will decide in October whether the library in the northern district is \
to be renovated in the same way."""

_MANUAL = """\
The pump is delivered ready for use. Before the first start, fill the housing with clean water and \
close the lid. Never run the pump dry, because the seal is destroyed within seconds. The motor is \
protected against overload: when it becomes too hot it stops, and it starts again after about \
fifteen minutes. To clean the filter, switch the pump off, pull the plug, open the lid and take \
the filter out. Rinse it under running water and put it back in the same position. In winter, \
drain the housing through the screw at the bottom and store the pump in a dry place above five \
degrees Celsius. The warranty is two years; damage by frost or by running dry is not covered."""

_LETTER = """\
Dear Mr Sommer,

thank you for your letter of 3 May. We have looked at your order again. The grey chairs that you \
ordered will arrive at our warehouse on 17 May, and we will deliver them to you on 19 May between \
nine and twelve. The table is already here. If you would like to have the table earlier, please \
call us, and we will bring it this week. We are sorry for the delay, and we will not charge you \
for the delivery.

Kind regards,
Anna Keller"""

_CODE = """\
def total(orders):
    result = 0
    for order in orders:
        if order.cancelled:
            continue
        result = result + order.price * order.count
    return result


def average(orders):
    count = 0
    for order in orders:
        if order.cancelled:
            continue
        count = count + 1
    if count == 0:
        return 0
    return total(orders) / count"""


def _ask(*parts: str) -> Conversation:
    return [{"role": "user", "content": "\n\n".join(parts)}]


TASKS: dict[str, list[Conversation]] = {
    "summarise": [
        _ask("Summarize the following text.", _REPORT),
        _ask("Summarize the following manual in a few sentences.", _MANUAL),
        _ask("Summarize this letter.", _LETTER),
    ],
    "edit": [
        _ask("Correct the spelling of the following text, and repeat it in full.", _REPORT),
        _ask("Rewrite this letter and change the name Anna Keller to Peter Lang.", _LETTER),
        _ask("Rename the function total to order_total and write the whole code again.", _CODE),
    ],
    "answer from context": [
        _ask(_REPORT, "What did the head librarian say about the number of visitors?"),
        _ask(_MANUAL, "How do I clean the filter? Quote the manual."),
        _ask(_LETTER, "When will the chairs arrive, and when will they be delivered?"),
    ],
    "free chat": [
        _ask("Tell me a story about a fox who learns to swim."),
        _ask("Why is the sky blue?"),
        _ask("What should I see in Rome in two days?"),
        _ask("Write a poem about the sea in autumn."),
    ],
}
