// The choice of a model, as an admission records it: of the ways in their order, the first that was not left out is the one that is asked.
//
// Why ways were left out, and that this is their order, is looked at by `lantern verify`, which chooses again.
import type { Json, Members } from "./json";
import { isMembers, list, members, need } from "./need";

const absent = (value: Json | undefined): boolean => value === undefined || value === null;

/** Provider, model and number of the key: what tells two ways apart. */
const same = (a: Members, b: Members): boolean =>
  (a.get("provider") ?? null) === (b.get("provider") ?? null) && (a.get("model") ?? null) === (b.get("model") ?? null) && (a.get("key") ?? 0n) === (b.get("key") ?? 0n);

/** Looks at events in turn; counts the choices that they record. */
export class Choices {
  count = 0;

  take(e: Members): void {
    if (e.get("type") !== "StepAdmitted") return;
    const grant = members(e.get("grant"), "the grant");
    const choice = members(grant.get("facts"), "the facts").get("choice");
    if (absent(choice)) return;
    const ways = list(members(choice, "the choice").get("ways"), "the ways");
    const first = ways.find((way) => absent(members(way, "a way").get("out")));
    need(isMembers(first) && same(first, members(grant.get("route"), "the route")), "of the ways to answer it, another is the first that was not left out");
    this.count += 1;
  }
}
