// A number and what it counts.
import { count } from "../lib/format";

export const plural = (n: number, one: string, many: string) => `${count(n)} ${n === 1 ? one : many}`;
