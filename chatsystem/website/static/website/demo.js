// The demo: one application, its chats, and two panes in which people write. It knows no more than any client of the API.

import {Pane} from "./pane.js";
import {copy, curl, note} from "./requests.js";

/** Names are kept for as many of the last messages. */
const SENDERS = 2_000;
/** The panes wait for a server that is away: an hour. */
const client = new ChatClient({patience: 3_600});
const byId = (id) => document.getElementById(id);
/** What survives a reload of this tab: token, chat, people, senders. */
const kept = {people: ["Ana", "Ben"], senders: [], ...JSON.parse(sessionStorage.getItem("demo") ?? "{}")};
const keep = () => sessionStorage.setItem("demo", JSON.stringify(kept));

const chats = new Map();
const news = new Set();
const senders = new Map(kept.senders);
let panes = [];

const room = {
    token: "",
    chat: null,
    position: "",
    senderOf: (chat, number) => senders.get(`${chat}/${number}`),
    sent(chat, number, person) {
        senders.set(`${chat}/${number}`, person);
        kept.senders = [...senders].slice(-SENDERS);
        keep();
        for (const pane of panes) pane.refresh(chat, number);
    },
    wrote(chat) {
        if (news.has(chat)) return;
        news.add(chat);
        showChats();
    },
    changed(chat) {
        const known = chats.get(chat.number);
        if (known && known.last_request_time >= chat.last_request_time) return;
        chats.set(chat.number, chat);
        showChats();
    },
    renamed() {
        kept.people = panes.map((pane) => pane.person);
        keep();
    },
    async reset() {
        chats.clear();
        await loadChats();
    },
    failed,
};

function failed(error) {
    byId("problem").textContent = error ? error.detail ?? error.message : "";
    byId("problem").hidden = !error;
}

/** Runs what a form does, and shows why it failed. */
function onSubmit(id, act) {
    byId(id)?.addEventListener("submit", async (event) => {
        event.preventDefault();
        const form = event.target;
        const button = form.querySelector("button");
        button.disabled = true;
        failed(null);
        try {
            await act(new FormData(form), form);
        } catch (error) {
            failed(error);
        } finally {
            button.disabled = false;
        }
    });
}

// The application -----------------------------------------------------------------------------------------------------

onSubmit("create-application", async (data) => {
    const name = data.get("name");
    note("Create an application", "POST", "/applications", {name});
    await enter(await client.createApplication(name));
});

onSubmit("open-application", async (data) => {
    const token = data.get("token").trim();
    note("Show an application", "GET", `/applications/${token}`);
    await enter(await client.application(token));
});

if (byId("create-with-key")) {
    const key = '-H "Authorization: Bearer $ADMIN_API_KEY"';
    byId("create-with-key").textContent = curl("POST", "/applications", {name: "My app"}, key);
}

async function enter({token, name}) {
    room.token = kept.token = token;
    byId("application-name").textContent = name;
    show("room");
    await loadChats();
    panes = kept.people.map((person) => new Pane(client, room, person));
    byId("panes").replaceChildren(...panes.map((pane) => pane.element));
    for (const pane of panes) pane.connect();
    select(chats.has(kept.chat) ? kept.chat : Math.max(0, ...chats.keys()) || null);
    (room.chat ? panes[0].field : byId("create-chat").elements.title).focus();
}

byId("copy-token").addEventListener("click", (event) => copy(event.target, room.token));

byId("leave").addEventListener("click", () => {
    sessionStorage.removeItem("demo");
    location.reload();
});

function show(part) {
    for (const id of ["start", "room"]) byId(id).hidden = id !== part;
    byId("application").hidden = part !== "room";
}

// Chats ---------------------------------------------------------------------------------------------------------------

async function loadChats() {
    const params = {order: "desc", limit: 100};
    note("List chats", "GET", `/applications/${room.token}/chats?${new URLSearchParams(params)}`);
    const page = await client.chats(room.token, params);
    room.position = page.position;
    for (const chat of page.results) room.changed(chat);
    showChats();
}

onSubmit("create-chat", async (data, form) => {
    const title = data.get("title");
    note("Create a chat", "POST", `/applications/${room.token}/chats`, {title});
    const chat = await client.createChat(room.token, title);
    form.reset();
    room.changed(chat);
    select(chat.number);
    panes[0].field.focus();
});

function select(chat) {
    room.chat = kept.chat = chat;
    keep();
    news.delete(chat);
    showChats();
    return Promise.all(panes.map((pane) => pane.open()));
}

function showChats() {
    const focused = document.activeElement?.dataset.chat;
    const newestFirst = [...chats.values()].sort((one, other) => other.number - one.number);
    byId("chats").replaceChildren(...newestFirst.map((chat) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.chat = chat.number;
        if (chat.number === room.chat) button.setAttribute("aria-current", "true");
        const title = document.createElement("span");
        title.textContent = chat.title;
        button.append(title);
        if (news.has(chat.number)) {
            const mark = document.createElement("b");
            mark.textContent = "new";
            button.append(" ", mark);
        }
        button.addEventListener("click", () => select(chat.number));
        const entry = document.createElement("li");
        entry.append(button);
        return entry;
    }));
    if (focused) byId("chats").querySelector(`[data-chat="${focused}"]`)?.focus();
}

// Search --------------------------------------------------------------------------------------------------------------

let moreHits = null;

onSubmit("search", async (data) => {
    const query = data.get("query");
    const params = {application: room.token, limit: 20};
    note("Search", "GET", `/search/${encodeURIComponent(query)}?${new URLSearchParams(params)}`);
    byId("hits").replaceChildren();
    showHits(await client.search(query, params));
});

byId("more-hits").addEventListener("click", async () => {
    try {
        showHits(await client.page(moreHits));
    } catch (error) {
        failed(error);
    }
});

function showHits({results, next, count}) {
    byId("found").textContent = count === 0 ? "Nothing found. A new message is found about a second after it was sent."
        : count === 1 ? "1 message" : `${count} messages`;
    byId("hits").append(...results.map(shownHit));
    moreHits = next;
    byId("more-hits").hidden = !next;
}

function shownHit(hit) {
    const button = document.createElement("button");
    button.type = "button";
    const place = document.createElement("span");
    place.className = "quiet";
    place.textContent = `${chats.get(hit.chat_number)?.title ?? `Chat ${hit.chat_number}`} #${hit.number}`;
    const text = document.createElement("span");
    text.dir = "auto";
    for (const [part, isMatch] of ChatClient.highlightParts(hit.highlight)) {
        const shown = document.createElement(isMatch ? "mark" : "span");
        shown.textContent = part;
        text.append(shown);
    }
    button.append(place, text);
    button.addEventListener("click", async () => {
        if (room.chat !== hit.chat_number) await select(hit.chat_number);
        await Promise.all(panes.map((pane) => pane.reveal(hit.number)));
    });
    const entry = document.createElement("li");
    entry.append(button);
    return entry;
}

// The page ------------------------------------------------------------------------------------------------------------

// A browser opens only six connections to a server, for all of its tabs. Each stream takes one.
document.addEventListener("visibilitychange", () => {
    for (const pane of panes) {
        if (document.hidden) pane.disconnect("paused");
        else pane.connect();
    }
});

if (matchMedia("(max-width: 60rem)").matches) byId("requests").open = false;

if (kept.token) {
    client.application(kept.token).then(enter).catch((error) => {
        show("start");
        failed(error);
    });
} else {
    show("start");
}
