// A collector for OTLP over HTTP: decodes what comes with OpenTelemetry's own
// protocol definitions, and answers as it is told to.
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { gunzipSync } from "node:zlib";
import { until } from "./helpers.mjs";

const root = createRequire(import.meta.url)("@opentelemetry/otlp-transformer/build/src/generated/root.js");
const { ExportTraceServiceRequest: Request, ExportTraceServiceResponse: Response } = root.opentelemetry.proto.collector.trace.v1;

const hex = (bytes) => Buffer.from(bytes ?? []).toString("hex");

function value_of(any) {
  const [kind] = Object.keys(any);
  return kind === "intValue" ? Number(any.intValue) : any[kind];
}

const attributes_of = (list) => Object.fromEntries((list ?? []).map(({ key, value }) => [key, value_of(value)]));

function span_of(span, id) {
  return {
    name: span.name,
    kind: span.kind,
    trace_id: id(span.traceId),
    span_id: id(span.spanId),
    parent_id: id(span.parentSpanId) || undefined,
    state: span.traceState || undefined,
    start_ns: BigInt(String(span.startTimeUnixNano)),
    end_ns: BigInt(String(span.endTimeUnixNano)),
    attributes: attributes_of(span.attributes),
    events: (span.events ?? []).map((e) => ({ name: e.name, attributes: attributes_of(e.attributes) })),
    links: (span.links ?? []).map((l) => ({ trace_id: id(l.traceId), span_id: id(l.spanId) })),
    status: span.status?.code ?? 0,
    message: span.status?.message,
    dropped: ["droppedAttributesCount", "droppedEventsCount", "droppedLinksCount"].map((name) => span[name] ?? 0),
  };
}

function decode(headers, body) {
  const bytes = headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
  if (headers["content-type"] === "application/json") {
    return [JSON.parse(bytes.toString("utf8")), (id) => id ?? ""];
  }
  const message = Request.decode(bytes);
  return [Request.toObject(message, { longs: String }), hex];
}

/** The body of an answer that rejects spans, in protobuf. */
export const partial = (rejectedSpans, errorMessage) => Buffer.from(Response.encode({ partialSuccess: { rejectedSpans, errorMessage } }).finish());

/** answer(n): {status, headers, body} for the n-th request, from 1; a promise to be slow. tls: as https.createServer() takes it. */
export async function collector(t, answer = () => ({ status: 200 }), tls = null) {
  const it = { requests: [], spans: [], count: 0 };
  const serve = (req, res) => {
    const parts = [];
    req.on("data", (part) => parts.push(part));
    req.on("end", async () => {
      it.count += 1;
      const { status, headers = {}, body: said } = await answer(it.count);
      const body = Buffer.concat(parts);
      if (status === 200) {
        const [message, id] = decode(req.headers, body);
        const resources = message.resourceSpans;
        it.requests.push({ headers: req.headers, url: req.url, bytes: body.length,
          resource: attributes_of(resources[0].resource.attributes), scope: resources[0].scopeSpans[0].scope });
        it.spans.push(...resources.flatMap((r) => r.scopeSpans).flatMap((s) => s.spans).map((s) => span_of(s, id)));
      }
      res.writeHead(status, headers).end(said);
    });
  };
  const server = tls ? https.createServer(tls, serve) : http.createServer(serve);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  it.url = `http${tls ? "s" : ""}://127.0.0.1:${server.address().port}`;
  /** The first span of that name, when it comes. */
  it.span = (name) => until(() => it.spans.find((s) => s.name === name), { timeout_ms: 30_000, what: `the span ${name}` });
  return it;
}
