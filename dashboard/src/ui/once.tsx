// What is shown once: a key, the link of an invitation, recovery codes.
import { type ReactNode } from "react";
import { m } from "../messages/en";
import { Dialog, copyText, useToast } from "./pieces";

export function Once({ title, text, secret, onClose, children }: { title: string; text: string; secret: string; onClose: () => void; children?: ReactNode }) {
  const toast = useToast();
  return (
    <Dialog title={title} onClose={onClose}>
      <p className="note">{text}</p>
      <pre className="block" tabIndex={0} data-secret>
        {secret}
      </pre>
      {children}
      <div className="formfoot">
        <button type="button" className="btn" onClick={() => void copyText(secret).then((done) => done && toast(m.common.copied))}>
          {m.common.copy}
        </button>
        <button type="button" className="btn first" onClick={onClose}>
          {m.common.close}
        </button>
      </div>
    </Dialog>
  );
}
