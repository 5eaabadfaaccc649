// When a question was asked, until when it waits, or when it was answered and by whom.
import type { Approval } from "../api/client";
import { m } from "../messages/en";
import { Time } from "../ui/pieces";

export function AskedWhen({ ask }: { ask: Approval }) {
  const words = m.approvals;
  return (
    <>
      <span>
        {words.asked} <Time at={ask.askedAt} />
      </span>
      {ask.status === "pending" ? (
        <span>
          {words.expires} <Time at={ask.expiresAt} />
        </span>
      ) : (
        ask.decidedAt && (
          <span>
            {words.decided} <Time at={ask.decidedAt} /> {ask.decidedBy && words.by(ask.decidedBy)}
          </span>
        )
      )}
    </>
  );
}
