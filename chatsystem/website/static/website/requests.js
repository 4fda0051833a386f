// The list of requests that the page has sent, as curl commands to copy: the latest of each kind, newest first.

const list = document.querySelector("#requests ul");

/** Adds a request, or replaces the last one of the same name. `options`: of curl. */
export function note(name, method, path, data, options = "") {
    const command = curl(method, path, data, options);
    [...list.children].find((entry) => entry.dataset.name === name)?.remove();
    const entry = document.createElement("li");
    entry.dataset.name = name;
    const label = document.createElement("span");
    label.textContent = name;
    const code = document.createElement("code");
    code.textContent = command;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${name}`);
    button.addEventListener("click", () => copy(button, command));
    entry.append(label, code, button);
    list.prepend(entry);
}

export function curl(method, path, data, options = "") {
    const words = ["curl"];
    if (options) words.push(options);
    if (method !== "GET" && method !== "POST") words.push("-X", method);
    words.push(quoted(location.origin + path));
    if (data) words.push("-H", quoted("Content-Type: application/json"), "-d", quoted(JSON.stringify(data)));
    return words.join(" ");
}

/** Copies the text, and shows on the button whether that worked. */
export async function copy(button, text) {
    const label = button.textContent;
    button.textContent = await copied(text) ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = label; }, 1_500);
}

async function copied(text) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        // A page has a clipboard only over HTTPS and on localhost.
        const field = document.createElement("textarea");
        field.value = text;
        document.body.append(field);
        field.select();
        const done = document.execCommand("copy");
        field.remove();
        return done;
    }
}

function quoted(text) {
    return `'${text.replaceAll("'", "'\\''")}'`;
}
