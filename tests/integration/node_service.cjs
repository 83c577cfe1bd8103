// A Node service as its users have them: OpenTelemetry's SDK, with its
// instrumentations of http and fetch. node node_service.cjs COLLECTOR_URL; prints
// its port. /start?at=URL fetches that URL and gives its JSON on; /end ends it.
"use strict";
const { NodeTracerProvider, SimpleSpanProcessor } = require("@opentelemetry/sdk-trace-node");
const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-proto");
const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
const { UndiciInstrumentation } = require("@opentelemetry/instrumentation-undici");

const provider = new NodeTracerProvider();
provider.addSpanProcessor(new SimpleSpanProcessor(new OTLPTraceExporter({ url: process.argv[2] })));
provider.register();
for (const instrumentation of [new HttpInstrumentation(), new UndiciInstrumentation()]) {
  instrumentation.setTracerProvider(provider);
  instrumentation.enable();
}

const http = require("http");
const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, "http://node");
  const body = url.pathname === "/start" ? await (await fetch(url.searchParams.get("at"))).text()
    : JSON.stringify({ traceparent: req.headers.traceparent });
  res.setHeader("content-type", "application/json");
  res.end(body);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
