// Hands in a secret. What is typed stands in its field and nowhere else: no state, no cache, and no closure keeps it.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type RefObject, useRef, useState } from "react";
import { ApiError, type Secret, put } from "../api/client";
import { shell } from "../lib/format";
import { hasLines, textOf } from "../lib/secrets";
import { m } from "../messages/en";
import { Confirm, Field, useToast } from "../ui/pieces";

const words = m.secrets;
type Input = RefObject<HTMLInputElement | null>;

/** Of a secret that is there, a new version; otherwise a new secret. */
export function HandIn({ of, onSaved, onClose }: { of?: Secret; onSaved?: (saved: Secret) => void; onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [name, setName] = useState(of?.name ?? "");
  const [file, setFile] = useState<string>();
  const typed: Input = useRef(null);
  const chosen: Input = useRef(null);
  const save = useMutation({
    gcTime: 0,
    mutationFn: async () => send(name, of === undefined, await valueOf(typed, chosen)),
    onSuccess: async (saved) => {
      toast(saved.versions[0]?.version === of?.versions[0]?.version ? words.same : words.saved(saved.version ?? 0));
      onClose();
      onSaved?.(saved);
      await client.invalidateQueries({ queryKey: ["secrets"] });
    },
  });
  const line = `lantern secrets set ${shell(name || "NAME")}${file === undefined ? "" : ` --file ${shell(file)}`}${of ? "" : " --new"}`;
  return (
    <Confirm
      title={of ? words.form.renewTitle(of.name) : words.form.createTitle}
      action={words.form.save}
      command={line}
      busy={save.isPending || name === ""}
      error={save.error}
      onConfirm={() => save.mutate()}
      onClose={onClose}
    >
      {!of && (
        <Field label={words.form.name} hint={words.form.nameHint}>
          <input type="text" required autoFocus autoComplete="off" spellCheck={false} value={name} onChange={(event) => setName(event.target.value)} />
        </Field>
      )}
      <Line of={typed} needed={file === undefined} first={of !== undefined} />
      <Field label={words.form.file} hint={words.form.fileHint}>
        <input type="file" ref={chosen} onChange={(event) => setFile(event.target.files?.[0]?.name)} />
      </Field>
      <p className="note">{words.form.command}</p>
    </Confirm>
  );
}

/** A value of one line. What has more is not joined, which nobody would see. */
function Line({ of, needed, first }: { of: Input; needed: boolean; first: boolean }) {
  const [lines, setLines] = useState(false);
  return (
    <>
      <Field label={words.form.value} hint={words.form.valueHint}>
        <input
          type="password"
          ref={of}
          required={needed}
          disabled={!needed}
          autoFocus={first}
          autoComplete="off"
          onInput={() => setLines(false)}
          onPaste={(event) => {
            if (!hasLines(event.clipboardData.getData("text"))) return;
            event.preventDefault();
            setLines(true);
          }}
        />
      </Field>
      {lines && (
        <p className="error" role="alert">
          {words.form.lines}
        </p>
      )}
    </>
  );
}

async function valueOf(typed: Input, chosen: Input): Promise<string> {
  const file = chosen.current?.files?.[0];
  if (!file) return typed.current?.value ?? "";
  const read = textOf(await file.arrayBuffer());
  if ("text" in read) return read.text;
  throw read.not === "text" ? new ApiError(0, "not_text", words.notText) : new ApiError(413, "body_too_large", words.tooLong);
}

async function send(name: string, isNew: boolean, value: string): Promise<Secret> {
  try {
    const saved = await put("/v1/secrets/{name}", { path: { name }, body: { value }, match: isNew ? { "If-None-Match": "*" } : undefined });
    return saved as Secret;
  } catch (error) {
    if (isNew && error instanceof ApiError && error.status === 412) throw new ApiError(412, error.code, words.exists(name), error.requestId);
    throw error;
  }
}
