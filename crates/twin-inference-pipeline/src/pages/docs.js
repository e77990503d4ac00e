// The page of the API: the OpenAPI description as a list that can be read.

import { byId, element } from "/element.js";
import { api } from "/server.js";

const LINES = /\n\n/;

// What a schema says, with references followed and parts joined.
function resolve(schema, all) {
  if (!schema) return {};
  if (schema.$ref) return resolve(all[schema.$ref.split("/").pop()], all);
  const parts = schema.allOf?.map((part) => resolve(part, all));
  if (!parts) return schema;
  return { ...schema, properties: Object.assign({}, ...parts.map((part) => part.properties)), required: parts.flatMap((part) => part.required ?? []) };
}

function typeOf(schema, all) {
  if (!schema) return "any";
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants) return variants.map((variant) => typeOf(variant, all)).filter((name) => name !== "null").join(" or ");
  if (schema.$ref) {
    const found = resolve(schema, all);
    return found.properties || found.oneOf ? schema.$ref.split("/").pop() : typeOf(found, all);
  }
  const types = [schema.type ?? "any"].flat().filter((name) => name !== "null");
  return types[0] === "array" ? `list of ${typeOf(schema.items, all)}` : types.join(" or ");
}

function fields(schema, all) {
  const { properties = {}, required = [] } = resolve(schema, all);
  const rows = Object.entries(properties).map(([name, field]) => {
    const text = [required.includes(name) ? "required" : "", field.description ?? resolve(field, all).description ?? ""].filter(Boolean).join(" · ");
    return element("tr", "", element("td", "", element("code", "", name)), element("td", "", typeOf(field, all)), element("td", "wraps", text));
  });
  return element("div", "wide", element("table", "", element("tbody", "", ...rows)));
}

function variants(schema, all) {
  return element("ul", "", ...schema.oneOf.map((variant) => {
    const { properties = {}, description = "" } = resolve(variant, all);
    const shape = Object.entries(properties).map(([name, field]) => `${name}: ${field.enum?.[0] ?? typeOf(field, all)}`);
    return element("li", "", element("code", "", `{ ${shape.join(", ")} }`), ` ${description}`);
  }));
}

function operation(method, path, described, all) {
  const body = described.requestBody?.content?.["application/json"]?.schema;
  const parameters = (described.parameters ?? []).map(({ name, in: place, description = "" }) =>
    element("tr", "", element("td", "", element("code", "", name)), element("td", "", place), element("td", "wraps", description)));
  const answers = Object.entries(described.responses).map(([status, response]) =>
    element("tr", "", element("td", "", status), element("td", "", Object.keys(response.content ?? {}).join(", ")), element("td", "wraps", response.description)));
  const about = (described.description ?? "").split(LINES).filter(Boolean).map((text) => element("p", "", text));
  return element("details", "operation",
    element("summary", "", element("code", "", `${method.toUpperCase()} ${path}`), ` ${described.summary ?? ""}`),
    ...about,
    parameters.length ? element("div", "wide", element("table", "", element("tbody", "", ...parameters))) : null,
    body ? fields(body, all) : null,
    element("h3", "", "Answers"),
    element("div", "wide", element("table", "", element("tbody", "", ...answers))));
}

function schema(name, described, all) {
  const found = resolve(described, all);
  const inside = found.oneOf ? variants(found, all) : fields(found, all);
  return element("details", "operation", element("summary", "", element("code", "", name), ` ${found.description ?? ""}`), inside);
}

async function show() {
  try {
    const description = await (await api("/api/openapi.json")).json();
    const all = description.components.schemas;
    const groups = new Map();
    for (const [path, methods] of Object.entries(description.paths)) {
      for (const [method, described] of Object.entries(methods)) {
        const tag = described.tags?.[0] ?? "Other";
        groups.set(tag, [...(groups.get(tag) ?? []), operation(method, path, described, all)]);
      }
    }
    byId("intro").textContent = description.info.description;
    const shapes = Object.entries(all).map(([name, described]) => schema(name, described, all));
    const sections = [...groups, ["Shapes", shapes]].map(([tag, nodes]) => element("section", "", element("h2", "", tag), ...nodes));
    byId("content").replaceChildren(...sections);
  } catch (error) {
    byId("problem").textContent = error.message;
  }
}

show();
