// The docs page of a deployment: reads openapi.json beside it, writes text nodes only. The key stays in
// its input: nothing is stored, since every service of the platform may share this page's origin.

const VERBS = ["get", "head", "post", "put", "patch", "delete"];
const base = new URL(".", location.href).href.replace(/\/$/, "");
const at = (id) => document.getElementById(id);
let api = { paths: {}, components: { schemas: {} }, info: {} };

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const resolve = (schema) => (schema?.$ref ? (api.components.schemas[schema.$ref.split("/").pop()] ?? {}) : (schema ?? {}));
const response = (told) => (told.$ref ? api.components.responses[told.$ref.split("/").pop()] : told);

function typeName(schema) {
  if (schema?.$ref) return schema.$ref.split("/").pop();
  if (!schema || !Object.keys(schema).length) return "any";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  const arms = schema.anyOf ?? schema.oneOf;
  if (arms) return arms.map(typeName).join(" | ");
  if (schema.prefixItems) return `[${schema.prefixItems.map(typeName).join(", ")}]`;
  if (schema.type === "array") return `${typeName(schema.items)}[]`;
  if (schema.type === "object" && schema.additionalProperties) return `{string: ${typeName(schema.additionalProperties)}}`;
  if (schema.contentMediaType) return schema.contentMediaType;
  if (schema.contentEncoding) return `${schema.contentEncoding} text`;
  return schema.format ? `${schema.type} (${schema.format})` : (schema.type ?? "any");
}

const LIMITS = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<", minLength: "length ≥", maxLength: "length ≤", minItems: "items ≥", maxItems: "items ≤", pattern: "matches" };

function field(name, schema, required, description, depth = 0, seen = [], answer = false) {
  const whole = resolve(schema);
  const notes = Object.entries(LIMITS).filter(([key]) => whole[key] !== undefined).map(([key, word]) => `${word} ${whole[key]}`);
  if (schema.default !== undefined) notes.push(`default ${JSON.stringify(schema.default)}`);
  return make("li", {},
    make("code", {}, name), make("span", { class: "type" }, typeName(schema)),
    required && !answer ? make("span", { class: "must" }, "required") : null,
    description || whole.description ? make("div", { class: "note" }, description || whole.description) : null,
    notes.length ? make("div", { class: "note mono" }, notes.join(" · ")) : null,
    inner(schema, depth + 1, seen, answer));
}

function inner(schema, depth = 0, seen = [], answer = false) {
  if (depth > 6) return null;
  if (schema?.$ref) {
    if (seen.includes(schema.$ref)) return null;
    seen = [...seen, schema.$ref];
  }
  const whole = resolve(schema);
  if (whole.items) return inner(whole.items, depth, seen, answer);
  const arms = whole.anyOf ?? whole.oneOf;
  if (arms) return arms.map((arm) => inner(arm, depth, seen, answer)).find(Boolean) ?? null;
  if (typeof whole.additionalProperties === "object") return inner(whole.additionalProperties, depth, seen, answer);
  if (!whole.properties) return null;
  const fields = Object.entries(whole.properties);
  return make("ul", { class: "fields" }, ...fields.map(([name, each]) => field(name, each, whole.required?.includes(name), each.description, depth, seen, answer)));
}

const withUrl = (source) => source
  .replaceAll("$KAON_URL", base).replaceAll('os.environ["KAON_URL"]', JSON.stringify(base)).replaceAll("process.env.KAON_URL", JSON.stringify(base));

function samples(told) {
  const list = told["x-codeSamples"] ?? [];
  if (!list.length) return null;
  const code = make("code", {});
  const copy = make("button", { type: "button", class: "copy", on: { click: async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1200);
  } } }, "Copy");
  const buttons = list.map((sample, index) => make("button", { type: "button", role: "tab", on: { click: () => show(index) } }, sample.label));
  const show = (index) => {
    code.textContent = withUrl(list[index].source);
    buttons.forEach((button, n) => button.setAttribute("aria-selected", String(n === index)));
  };
  show(0);
  return make("section", {}, make("h3", {}, "Sample"),
    make("div", { class: "tabs", role: "tablist" }, ...buttons, copy), make("pre", { tabindex: "0" }, code),
    make("p", { class: "note" }, "Put your key into ", make("code", {}, "KAON_KEY"), " first."));
}

const FORMS = ["multipart/form-data", "application/x-www-form-urlencoded"];
const fileType = (schema) => schema?.contentMediaType ?? (schema?.format === "binary" ? "*/*" : undefined);

function sampleOf(schema, depth = 0) {
  const whole = resolve(schema);
  const given = whole.const ?? whole.default ?? whole.examples?.[0] ?? whole.example ?? whole.enum?.[0];
  if (given !== undefined || depth > 6) return given ?? null;
  const arm = (whole.anyOf ?? whole.oneOf)?.[0];
  if (arm) return sampleOf(arm, depth + 1);
  if (whole.properties) return Object.fromEntries(Object.entries(whole.properties).filter(([name]) => whole.required?.includes(name)).map(([name, each]) => [name, sampleOf(each, depth + 1)]));
  return { string: "", integer: 0, number: 0, boolean: false, array: [], null: null }[whole.type] ?? {};
}

const titleOf = (told) => (told["x-mount"] ? (told.summary ?? told.operationId) : told.operationId);

function form(path, verb, told) {
  if (told["x-kaon"]?.kind === "websocket") return make("p", { class: "note" }, "Connect with a WebSocket client: the key goes into the authorization header, or in a browser among the subprotocols: new WebSocket(url, [\"kaon\", \"kaon.key.\" + key]).");
  const inputs = (told.parameters ?? []).map((p) => ({ ...p, input: make("input", { value: p.example === undefined ? "" : [p.example].flat().map((v) => typeof v === "string" ? v : JSON.stringify(v)).join(","), placeholder: typeName(p.schema) }) }));
  const content = told.requestBody?.content ?? {};
  const encoded = FORMS.find((type) => content[type]);
  const parts = encoded && resolve(content[encoded].schema).properties;
  const files = Object.entries(parts ?? {}).map(([name, schema]) => {
    const one = fileType(schema) ?? fileType(schema.items);
    const example = content["application/json"]?.examples?.["1"]?.value?.[name];
    const text = example === undefined || one ? "" : typeof example === "string" ? example : JSON.stringify(example);
    return { name, input: one ? make("input", { type: "file", accept: one, multiple: schema.type === "array" }) : make("input", { value: text, placeholder: typeName(schema) }) };
  });
  const example = content["application/json"]?.examples?.["1"]?.value;
  const body = content["application/json"] && !parts ? make("textarea", { spellcheck: "false" }) : null;
  if (body) body.value = JSON.stringify(example ?? sampleOf(content["application/json"].schema), null, 2);
  const answer = make("div");
  const send = make("button", {}, "Send");
  const stop = make("button", { type: "button", class: "quiet", hidden: true }, "Stop");
  const submit = async (event) => {
    event.preventDefault();
    const running = new AbortController();
    stop.onclick = () => running.abort();
    send.disabled = true; stop.hidden = false; answer.replaceChildren();
    try {
      const [url, init] = request(path, verb, inputs, body, files);
      await display(answer, url, { ...init, signal: running.signal });
    } catch (error) {
      answer.replaceChildren(make("p", { class: "s5" }, error.name === "AbortError" ? "Stopped." : `Not sent: ${error.message}`));
    } finally { send.disabled = false; stop.hidden = true; }
  };
  return make("details", { class: "try" }, make("summary", {}, "Try it"), make("form", { on: { submit } },
    ...inputs.map((p) => make("label", {}, p.required ? `${p.name} *` : p.name, p.input)),
    ...files.map((f) => make("label", {}, f.name, f.input)),
    body ? make("label", {}, "Body", body) : null, make("div", { class: "row" }, send, stop), answer));
}

function request(path, verb, inputs, body, files) {
  const query = new URLSearchParams();
  const headers = at("key").value ? { authorization: `Bearer ${at("key").value}` } : {};
  for (const { name, in: place, schema, input, required } of inputs) {
    if (place === "cookie") continue; // a page cannot set any
    if (place === "header") { if (input.value !== "") headers[name] = input.value; }
    else if (place === "path") path = path.replace(`{${name}}`, encodeURIComponent(input.value));
    else if (input.value !== "" || required) for (const text of typeName(schema).includes("[]") ? input.value.split(",") : [input.value]) query.append(name, text);
  }
  const init = { method: verb.toUpperCase(), headers };
  if (files.length) {
    init.body = new FormData();
    for (const { name, input } of files) {
      if (input.type !== "file") { if (input.value !== "") init.body.append(name, input.value); }
      else for (const file of input.files) init.body.append(name, file);
    }
  } else if (body) {
    headers["content-type"] = "application/json";
    init.body = JSON.stringify(JSON.parse(body.value));
  }
  return [base + (path === "/" ? "" : path) + (query.size ? `?${query}` : ""), init];
}

async function display(answer, url, init) {
  const begun = performance.now();
  const got = await fetch(url, init);
  const type = (got.headers.get("content-type") ?? "").split(";")[0];
  const time = make("span", {}, `${Math.round(performance.now() - begun)} ms`);
  const id = got.headers.get("x-request-id");
  answer.append(make("p", { class: "status" }, make("strong", { class: `s${String(got.status)[0]}` }, `${got.status} ${got.statusText}`), time, make("span", {}, type), id ? make("span", { class: "mono" }, id) : null));
  if (type.startsWith("image/")) return answer.append(make("img", { class: "answer", alt: "The answer", src: URL.createObjectURL(await got.blob()) }));
  if (type.startsWith("audio/")) return answer.append(make("audio", { class: "answer", controls: true, src: URL.createObjectURL(await got.blob()) }));
  const shown = make("pre", { class: "answer", tabindex: "0" });
  answer.append(shown);
  if (type === "text/event-stream" || type === "application/x-ndjson") {
    const decoder = new TextDecoder();
    for (let reader = got.body.getReader(), piece; !(piece = await reader.read()).done;) {
      shown.append(decoder.decode(piece.value, { stream: true }));
      shown.scrollTop = shown.scrollHeight;
    }
    return;
  }
  const text = await got.text();
  try { shown.textContent = JSON.stringify(JSON.parse(text), null, 2); } catch { shown.textContent = text || "(nothing)"; }
}

function endpoint(path, verb, told) {
  const more = told["x-kaon"] ?? {};
  const tags = [told["x-mount"], more.kind === "call" ? null : more.kind, more.idempotent ? "idempotent" : null, more.timeout_s ? `${more.timeout_s} s` : null, more.batch ? `batches of ${more.batch.max_size}` : null].filter(Boolean);
  const parameters = told.parameters ?? [];
  const content = Object.entries(told.requestBody?.content ?? {});
  const body = [...FORMS, "application/json"].map((type) => told.requestBody?.content[type]?.schema).find(Boolean);
  const good = Object.entries(told.responses).find(([status]) => status < "4");
  const schema = good && Object.values(good[1].content ?? {})[0]?.schema;
  const item = schema?.["x-item"] ?? schema;
  return make("article", { id: told.operationId, "data-find": `${told.operationId} ${path} ${told.summary ?? ""}`.toLowerCase() },
    make("div", { class: "head" }, make("span", { class: `verb ${verb}` }, verb.toUpperCase()), make("code", {}, path), make("h2", {}, titleOf(told)), ...tags.map((tag) => make("span", { class: "tag" }, tag))),
    told.summary && !told["x-mount"] ? make("p", {}, told.summary) : null,
    told.description ? make("p", { class: "text note" }, told.description) : null,
    make("div", { class: "split" },
      make("div", {},
        parameters.length ? make("h3", {}, "Parameters") : null,
        parameters.length ? make("ul", { class: "fields" }, ...parameters.map((p) => field(p.name, p.schema, p.required, p.description))) : null,
        content.length ? make("h3", {}, `Body · ${content.map(([type]) => type).join(" or ")}`) : null,
        body ? (inner(body) ?? make("p", { class: "note mono" }, typeName(body))) : null,
        item ? make("h3", {}, schema["x-item"] ? "Each item" : "Answer") : null,
        item ? make("p", { class: "mono" }, typeName(item)) : null,
        item ? inner(item, 0, [], true) : null,
        make("details", { class: "errors" }, make("summary", {}, make("h3", {}, "Errors")),
          make("table", {}, make("tbody", {}, ...Object.entries(told.responses).filter(([status]) => !(status < "4")).map(([status, each]) => make("tr", {}, make("td", { class: `s${status[0]}` }, status), make("td", {}, response(each).description))))))),
      make("div", {}, samples(told), form(path, verb, told))));
}

function mounted(apps) {
  if (!apps.length) return [];
  // A link carries no key: what needs one cannot be opened by it.
  const link = (path, text) => (at("key").value ? document.createTextNode(text) : make("a", { href: base + path }, text));
  return [make("h2", {}, "Mounted apps"), make("ul", { class: "fields" }, ...apps.map((app) => make("li", {},
    make("code", {}, link(`${app.path}/`, app.path)), app.title ? make("span", {}, ` ${app.title}`) : null,
    make("span", { class: "type" }, (app.kind ?? "").toUpperCase()),
    app.docs && !at("key").value ? make("span", {}, link(app.docs, "Documentation"), " ") : null,
    app.openapi ? make("a", { href: base + app.openapi, on: { click: (event) => { event.preventDefault(); open_document(app.openapi); } } }, "OpenAPI") : null)))];
}

async function open_document(path) {
  const key = at("key").value;
  const got = await fetch(base + path, { headers: key ? { authorization: `Bearer ${key}` } : {} });
  window.open(URL.createObjectURL(new Blob([await got.text()], { type: "application/json" })));
}

function show(document_) {
  api = document_;
  const info = api.info;
  document.title = `${info.title} · API`;
  at("brand").textContent = info.title;
  at("title").textContent = info.title;
  at("summary").textContent = info.summary ?? "";
  at("description").replaceChildren(info.description ? make("p", { class: "text" }, info.description) : "");
  const all = Object.entries(api.paths).flatMap(([path, item]) => VERBS.filter((verb) => item[verb]).map((verb) => [path, verb, item[verb]]));
  at("endpoints").replaceChildren(...all.map((each) => endpoint(...each)));
  at("mounts").replaceChildren(...mounted(api["x-mounts"] ?? []));
  at("nav").replaceChildren(...all.map(([path, verb, told]) => make("a", { href: `#${told.operationId}` }, make("span", { class: `verb ${verb}` }, verb === "delete" ? "DEL" : verb.toUpperCase()), make("span", { title: path }, titleOf(told)))));
  const watch = new IntersectionObserver((entries) => entries.forEach((entry) => document.querySelector(`nav a[href="#${entry.target.id}"]`)?.classList.toggle("here", entry.isIntersecting)), { rootMargin: "-10% 0px -70% 0px" });
  document.querySelectorAll("article").forEach((article) => watch.observe(article));
}

async function load() {
  const key = at("key").value;
  const got = await fetch(`${base}/openapi.json`, { headers: key ? { authorization: `Bearer ${key}` } : {} });
  if (got.ok) {
    at("notice").textContent = "";
    show(await got.json());
  } else {
    at("title").textContent = base.split("/").pop() || "API";
    at("notice").textContent = got.status === 401 || got.status === 403 ? (key ? "This key does not open this deployment." : "This deployment is closed. Enter a key to see it.") : `The description cannot be read (HTTP ${got.status}).`;
  }
}

at("url").value = base;
at("key").addEventListener("change", load);
at("filter").addEventListener("input", () => {
  const wanted = at("filter").value.toLowerCase();
  document.querySelectorAll("article").forEach((article) => {
    article.hidden = !article.dataset.find.includes(wanted);
    document.querySelector(`nav a[href="#${article.id}"]`).hidden = article.hidden;
  });
});
at("document").addEventListener("click", (event) => {
  event.preventDefault();
  const file = new Blob([JSON.stringify(api, null, 2)], { type: "application/json" });
  window.open(URL.createObjectURL(file));
});
const root = document.documentElement;
root.dataset.theme = localStorage.getItem("kaon-theme") ?? "";
at("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("kaon-theme", root.dataset.theme);
});
load().catch(() => { at("notice").textContent = "The description cannot be read."; });
