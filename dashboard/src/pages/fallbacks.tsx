// What is shown where no page is, and where one failed.
import { Link } from "@tanstack/react-router";
import { m } from "../messages/en";
import { Failure } from "../ui/pieces";

export function Missing() {
  return (
    <div className="page">
      <div className="empty">
        <h1>{m.errors.pageMissing}</h1>
        <p>{m.errors.pageMissingHint}</p>
        <Link to="/" className="btn">
          {m.nav.home}
        </Link>
      </div>
    </div>
  );
}

export function Crashed({ error }: { error: unknown }) {
  return (
    <div className="page">
      <h1>{m.errors.crashed}</h1>
      <p className="note">{m.errors.crashedHint}</p>
      <Failure error={error} retry={() => location.reload()} />
    </div>
  );
}
