"""``tintype policy``: what today's signature policy says about images."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import typer

from tintype.cli.arguments import ImageArgument
from tintype.cli.bars import count_bar
from tintype.cli.session import Session, command

if TYPE_CHECKING:
    from tintype.client import PolicyVerdict

app = typer.Typer(help="What today's signature policy says about images.", no_args_is_help=True)


@command(app, "test")
async def test(session: Session, image: ImageArgument) -> None:
    """Say whether an image would be let in today; a refusal is an error."""
    from tintype.client import ContentError

    verdict = await session.client.policy.test(await session.image_id(image))
    session.printer.one(verdict)
    if failure := verdict.failure:
        raise ContentError(failure.message, reason=failure.reason, hint=failure.hint, evidence=failure.evidence)


@command(app, "replay")
async def replay(session: Session) -> None:
    """Say of every published image in the log whether it would be let in today; one refusal makes it an error.

    With --project, only of that project's images. Speaks as an administrator.
    """
    from tintype.client import ContentError

    judged = refused = 0
    with count_bar("events") as report:
        replayed = session.client.policy.replay(session.project, on_progress=report)
        async with aclosing(replayed) as verdicts:
            async for verdict in verdicts:
                judged += 1
                refused += verdict.failure is not None
                session.printer.item(verdict, _sentence(verdict))
    if refused:
        raise ContentError(
            f"today's policies refuse {refused} of {judged} images",
            reason="POLICY_REFUSES",
            hint="`tintype --admin policy test IMAGE` tells why, and what to do.",
        )


def _sentence(verdict: PolicyVerdict) -> str:
    where = f"{verdict.image_id}  {verdict.project}"
    if verdict.failure:
        return f"refused  {where}  {verdict.failure.message} [{verdict.failure.reason}]"
    found = verdict.verification
    return f"allowed  {where}  {found.certificate_subject or found.verdict.value if found else ''}".rstrip()
