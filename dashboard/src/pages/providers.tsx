// Where models are called. A key goes in here and never comes out.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, get, post, remove } from "../api/client";
import { useMe } from "../app/session";
import { shell } from "../lib/format";
import { isAdmin } from "../lib/people";
import { m } from "../messages/en";
import { Confirm, Empty, Failure, Field, Head, Loading, SameCommand, Status, useTitle, useToast } from "../ui/pieces";

export function Providers() {
  useTitle(m.providers.title);
  const may = isAdmin(useMe()?.role);
  const client = useQueryClient();
  const toast = useToast();
  const [adding, setAdding] = useState(false);
  const [leaving, setLeaving] = useState<string>();
  const providers = useQuery({ queryKey: ["providers"], queryFn: ({ signal }) => get("/v1/settings/llm-providers", { signal }) });
  const again = () => client.invalidateQueries({ queryKey: ["providers"] });
  const test = useMutation({
    mutationFn: async (provider: string) => {
      const answer = await post("/v1/settings/llm-providers/{provider}/test", { path: { provider } });
      if (!answer.success) throw new ApiError(422, answer.code ?? "provider_refused", answer.error ?? answer.message ?? answer.reason ?? provider);
      return provider;
    },
    onSuccess: (provider) => toast(m.providers.works(provider)),
    onSettled: again,
  });
  const forget = useMutation({
    mutationFn: (provider: string) => remove("/v1/settings/llm-providers/{provider}", { path: { provider } }),
    onSuccess: async () => {
      toast(m.providers.deleted);
      setLeaving(undefined);
      await again();
    },
  });
  const items = providers.data ?? [];
  const names = m.providers.columns;
  return (
    <div className="page">
      <Head title={m.providers.title} lead={m.providers.lead}>
        {may && (
          <button type="button" className="btn first" onClick={() => setAdding(true)}>
            {m.providers.add}
          </button>
        )}
      </Head>
      <Failure error={providers.error ?? test.error} />
      {providers.isPending ? (
        <Loading />
      ) : (
        <div className="card">
          {items.length === 0 && !providers.error ? (
            <Empty title={m.providers.empty} hint={m.providers.emptyHint} command="lantern providers set openai --key-stdin" />
          ) : (
            <table className="table" aria-label={m.providers.table}>
              <thead>
                <tr>
                  <th>{names.provider}</th>
                  <th className="fit">{names.key}</th>
                  <th className="wide">{names.url}</th>
                  <th className="fit wide">{names.source}</th>
                  <th className="fit">{names.status}</th>
                  {may && (
                    <th className="fit">
                      <span className="sr">{m.providers.test}</span>
                    </th>
                  )}
                </tr>
              </thead>
              <tbody>
                {items.map((one) => (
                  <tr key={`${one.source}-${one.provider}`}>
                    <td className="cut isolate">{one.provider}</td>
                    <td className="fit mono dim">{one.keyMasked || m.common.none}</td>
                    <td className="cut mono dim wide isolate">{one.baseUrl ?? m.common.none}</td>
                    <td className="fit dim wide">{one.createdAt ? m.providers.own : m.providers.operator}</td>
                    <td className="fit">
                      <Status of={one.status} />
                    </td>
                    {may && (
                      <td className="fit">
                        <span className="row">
                          <button type="button" className="btn small" disabled={test.isPending} onClick={() => test.mutate(one.provider)}>
                            {test.isPending && test.variables === one.provider ? m.providers.testing : m.providers.test}
                          </button>
                          {one.createdAt && (
                            <button type="button" className="btn small danger" onClick={() => setLeaving(one.provider)}>
                              {m.providers.delete}
                            </button>
                          )}
                        </span>
                      </td>
                    )}
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
      {may && items[0] && <SameCommand line={`lantern providers test ${shell(items[0].provider)}`} />}
      {adding && <Add onClose={() => setAdding(false)} />}
      {leaving !== undefined && (
        <Confirm
          title={m.providers.deleteTitle(leaving)}
          text={m.providers.deleteText}
          action={m.providers.delete}
          command={`lantern providers delete ${shell(leaving)}`}
          danger
          busy={forget.isPending}
          error={forget.error}
          onConfirm={() => forget.mutate(leaving)}
          onClose={() => setLeaving(undefined)}
        />
      )}
    </div>
  );
}

function Add({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const toast = useToast();
  const [provider, setProvider] = useState("");
  const [key, setKey] = useState("");
  const [url, setUrl] = useState("");
  const words = m.providers.form;
  const save = useMutation({
    mutationFn: () => post("/v1/settings/llm-providers", { body: { provider, apiKey: key || undefined, baseUrl: url || undefined } }),
    onSuccess: async (saved) => {
      toast(saved.warning ?? m.providers.saved);
      await client.invalidateQueries({ queryKey: ["providers"] });
      onClose();
    },
  });
  const line = [`lantern providers set ${shell(provider || "NAME")}`, ...(url ? [`--base-url ${shell(url)}`] : []), ...(key ? ["--key-stdin"] : [])].join(" ");
  return (
    <Confirm title={words.title} action={words.save} command={line} busy={save.isPending || provider === ""} error={save.error} onConfirm={() => save.mutate()} onClose={onClose}>
      <Field label={words.provider} hint={words.providerHint}>
        <input type="text" required autoFocus autoComplete="off" value={provider} onChange={(event) => setProvider(event.target.value)} />
      </Field>
      <Field label={words.key} hint={words.keyHint}>
        <input type="password" autoComplete="off" value={key} onChange={(event) => setKey(event.target.value)} />
      </Field>
      <Field label={words.url} hint={words.urlHint}>
        <input type="text" inputMode="url" autoComplete="off" value={url} onChange={(event) => setUrl(event.target.value)} />
      </Field>
    </Confirm>
  );
}
