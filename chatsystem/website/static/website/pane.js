// One person's view of the chats: a client of its own, with its own stream and its own copy of the messages.

import {note} from "./requests.js";

const PAGE = 50, LARGEST_PAGE = 1_000;
const STATES = {
    connecting: "Connecting…",
    live: "Live",
    polling: "Live, by polling",
    reconnecting: "Reconnecting…",
    closed: "Stopped",
    offline: "Offline",
    paused: "Paused while hidden",
};
const clock = new Intl.DateTimeFormat("en", {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});

const copyOf = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** The messages of one chat that a pane knows, by number. All from `lowest` on are here, and are shown. */
class Messages {
    byNumber = new Map();
    lowest = Infinity;

    /** Keeps the newest version, and returns it. A list may be older than the stream, and a stream may repeat a list. */
    keep(message) {
        const known = this.byNumber.get(message.number);
        // Times have a fixed length, so they compare as text.
        const newest = known && known.last_request_time >= message.last_request_time ? known : message;
        this.byNumber.set(message.number, newest);
        return newest;
    }
}

export class Pane {
    #client;
    #room;
    #chats = new Map();
    #outbox = [];
    #sending = Promise.resolve();
    #stream = null;
    #position;
    #offline = false;
    #editing = null;
    /** Counts resets. What was asked for before a reset is not shown after it. */
    #generation = 0;

    /** `room`: token, chat, position, senderOf(chat, number), and callbacks sent, wrote, changed, reset. */
    constructor(client, room, person) {
        this.#client = client;
        this.#room = room;
        this.#position = room.position;
        this.element = copyOf("pane");
        this.element.setAttribute("aria-label", person);
        const find = (name) => this.element.querySelector(name);
        this.scroll = find(".scroll");
        this.list = find(".messages");
        this.field = find("textarea");
        find(".person").value = person;
        find(".person").addEventListener("change", () => this.#rename());
        find(".offline").addEventListener("click", () => this.#toggle());
        find(".older").addEventListener("click", () => this.#loadOlder());
        find(".newest").addEventListener("click", () => this.#toEnd());
        this.scroll.addEventListener("scroll", () => this.#scrolled());
        this.element.querySelector("form").addEventListener("submit", (event) => this.#submit(event));
        this.field.addEventListener("keydown", (event) => this.#key(event));
        this.field.addEventListener("input", () => this.#fit());
    }

    get person() {
        return this.element.querySelector(".person").value.trim() || "Nobody";
    }

    // The stream -------------------------------------------------------------------------------------------------------

    connect() {
        if (this.#stream || this.#offline) return;
        const {token} = this.#room;
        note("Stream", "GET", `/applications/${token}/events`, null, "-N");
        this.#stream = this.#client.stream({
            getTicket: () => {
                note("Create a ticket for a browser", "POST", `/applications/${token}/tickets`, {ttl: 3_600});
                return this.#client.createTicket(token, {ttl: 3_600});
            },
            position: this.#position,
            onMessage: (message) => this.#receive(message),
            onChat: (chat) => this.#room.changed(chat),
            onReset: () => this.#forget(),
            onState: (state, error) => this.#show(state, error),
        });
    }

    /** Ends the stream, and keeps where it was. `state` is shown. */
    disconnect(state) {
        if (!this.#stream) return;
        this.#position = this.#stream.position;
        const stream = this.#stream;
        this.#stream = null;
        stream.close();
        this.#show(state);
    }

    #show(state, error) {
        // A stream that was replaced says that it is closed.
        if (state === "closed" && !this.#stream) return;
        const label = this.element.querySelector(".state");
        label.dataset.state = state;
        label.textContent = STATES[state] + (error ? `: ${error.message}` : "");
    }

    #toggle() {
        this.#offline = !this.#offline;
        if (this.#offline) this.disconnect("offline");
        else this.connect();
        const button = this.element.querySelector(".offline");
        button.textContent = this.#offline ? "Go online" : "Go offline";
        button.setAttribute("aria-pressed", this.#offline);
        this.#update();
        if (!this.#offline) this.open();
    }

    #receive(message) {
        const messages = this.#chats.get(message.chat_number);
        if (message.chat_number !== this.#room.chat) this.#room.wrote(message.chat_number);
        // Of a chat that was not opened yet, the list shows everything.
        if (!messages) return;
        const newest = messages.keep(message);
        if (message.chat_number === this.#room.chat && message.number >= messages.lowest) this.#place(newest);
    }

    #forget() {
        this.#generation++;
        this.#chats.clear();
        this.#room.reset();
        this.open();
    }

    // Messages ---------------------------------------------------------------------------------------------------------

    /** Shows the room's chat from its end. */
    async open() {
        const {chat} = this.#room;
        this.#editing = null;
        this.list.replaceChildren();
        if (chat && !this.#chats.has(chat) && !this.#offline) {
            // Before the request, so that the stream adds to it meanwhile.
            const messages = new Messages();
            messages.lowest = 1;
            this.#chats.set(chat, messages);
            this.#update();
            try {
                await this.#load(chat, PAGE);
            } catch (error) {
                this.#chats.delete(chat);
                this.#room.failed(error);
            }
        } else {
            for (const message of this.#known()) this.#place(message);
        }
        this.#update();
        this.#toEnd();
    }

    #known() {
        const messages = this.#chats.get(this.#room.chat);
        const shown = messages ? [...messages.byNumber.values()].filter(({number}) => number >= messages.lowest) : [];
        return shown.sort((one, other) => one.number - other.number);
    }

    /** Lists the messages before the lowest one, and shows them. */
    async #load(chat, limit, before) {
        const {token} = this.#room;
        const generation = this.#generation;
        const params = {order: "desc", limit, ...(before && {before})};
        note("List messages", "GET", `/applications/${token}/chats/${chat}/messages?${new URLSearchParams(params)}`);
        const {results} = await this.#client.messages(token, chat, params);
        const messages = this.#chats.get(chat);
        if (generation !== this.#generation || !messages) return;
        messages.lowest = results.length < limit ? 1 : results.at(-1).number;
        for (const message of results) {
            const newest = messages.keep(message);
            if (chat === this.#room.chat) this.#place(newest, false);
        }
        this.#update();
    }

    async #loadOlder(limit = PAGE) {
        const messages = this.#chats.get(this.#room.chat);
        const button = this.element.querySelector(".older");
        if (!messages || messages.lowest === 1 || button.disabled) return;
        button.disabled = true;
        const fromEnd = this.scroll.scrollHeight - this.scroll.scrollTop;
        try {
            await this.#load(this.#room.chat, limit, messages.lowest);
        } catch (error) {
            this.#room.failed(error);
        } finally {
            button.disabled = false;
        }
        // What was in view stays there.
        this.scroll.scrollTop = this.scroll.scrollHeight - fromEnd;
    }

    /** Scrolls to a message, and loads what lies between. */
    async reveal(number) {
        const messages = this.#chats.get(this.#room.chat);
        while (messages && number < messages.lowest && !this.#offline) await this.#loadOlder(LARGEST_PAGE);
        const row = this.#row(number);
        if (!row) return;
        row.scrollIntoView({block: "center"});
        row.classList.remove("revealed");
        // Begins the animation again.
        void row.offsetWidth;
        row.classList.add("revealed");
    }

    #row(number) {
        return this.list.querySelector(`[data-number="${number}"]`);
    }

    /** Shows a message in its place, new or changed. */
    #place(message, follow = true) {
        const atEnd = this.#isAtEnd();
        let row = this.#row(message.number);
        const isNew = !row;
        if (isNew) {
            row = copyOf("message");
            row.dataset.number = message.number;
            row.querySelector(".edit").addEventListener("click", () => this.#edit(message.number));
            const rows = this.list.children;
            let after = rows.length;
            while (after && Number(rows[after - 1].dataset.number) > message.number) after--;
            this.list.insertBefore(row, rows[after] ?? null);
        }
        this.#fill(row, message);
        this.#update();
        if (!follow) return;
        if (atEnd) this.#toEnd();
        else if (isNew) this.element.querySelector(".newest").hidden = false;
    }

    #fill(row, message) {
        const sender = this.#room.senderOf(this.#room.chat, message.number);
        const own = sender === this.person;
        row.classList.toggle("own", own);
        row.querySelector(".sender").textContent = own ? "" : sender ?? "";
        row.querySelector(".number").textContent = `#${message.number}`;
        const time = row.querySelector("time");
        const changed = message.last_request_time !== message.created_at;
        time.dateTime = message.created_at;
        time.textContent = clock.format(new Date(message.created_at));
        row.querySelector(".edited").hidden = !changed;
        row.querySelector(".edited").title = `at ${message.last_request_time}`;
        const edit = row.querySelector(".edit");
        edit.hidden = !own || this.#editing === message.number;
        edit.setAttribute("aria-label", `Edit message ${message.number}`);
        row.querySelector(".body").textContent = message.body;
    }

    /** Shows who wrote a message, once the page knows it. */
    refresh(chat, number) {
        const message = this.#chats.get(chat)?.byNumber.get(number);
        const row = chat === this.#room.chat && this.#row(number);
        if (message && row) this.#fill(row, message);
    }

    #rename() {
        this.element.setAttribute("aria-label", this.person);
        for (const message of this.#known()) this.refresh(this.#room.chat, message.number);
        this.#room.renamed();
    }

    // Writing ----------------------------------------------------------------------------------------------------------

    #key(event) {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            this.field.form.requestSubmit();
        }
    }

    #submit(event) {
        event.preventDefault();
        const item = {chat: this.#room.chat, body: this.field.value, person: this.person, error: ""};
        this.field.value = "";
        this.#fit();
        this.#outbox.push(item);
        this.#update();
        this.#toEnd();
        // One after the other, so that they are numbered in the order in which they were written.
        this.#sending = this.#sending.then(() => this.#send(item));
    }

    async #send(item) {
        const {token} = this.#room;
        note("Send a message", "POST", `/applications/${token}/chats/${item.chat}/messages`, {body: item.body});
        try {
            const message = await this.#client.createMessage(token, item.chat, item.body);
            this.#outbox.splice(this.#outbox.indexOf(item), 1);
            this.#room.sent(item.chat, message.number, item.person);
            this.#receive({...message, chat_number: item.chat});
        } catch (error) {
            item.error = error.detail ?? error.message;
        }
        this.#update();
    }

    #edit(number) {
        const {token, chat} = this.#room;
        const row = this.#row(number);
        const messages = this.#chats.get(chat);
        const form = copyOf("editor");
        const field = form.querySelector("textarea");
        const close = () => {
            this.#editing = null;
            form.remove();
            row.classList.remove("editing");
            this.refresh(chat, number);
            row.querySelector(".edit").focus();
        };
        this.list.querySelector(".editor .cancel")?.click();
        this.#editing = number;
        field.value = messages.byNumber.get(number).body;
        row.classList.add("editing");
        row.querySelector(".edit").hidden = true;
        row.append(form);
        row.scrollIntoView({block: "nearest"});
        field.focus();
        field.addEventListener("keydown", (event) => {
            if (event.key === "Escape") close();
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
                event.preventDefault();
                form.requestSubmit();
            }
        });
        form.querySelector(".cancel").addEventListener("click", close);
        form.addEventListener("submit", async (event) => {
            event.preventDefault();
            const path = `/applications/${token}/chats/${chat}/messages/${number}`;
            note("Change a message", "PATCH", path, {body: field.value});
            form.inert = true;
            try {
                const message = await this.#client.changeMessage(token, chat, number, field.value);
                this.#receive({...message, chat_number: chat});
                close();
            } catch (error) {
                form.inert = false;
                this.#room.failed(error);
            }
        });
    }

    // What is around the messages --------------------------------------------------------------------------------------

    #update() {
        const {chat} = this.#room;
        const messages = this.#chats.get(chat);
        const waiting = this.#outbox.filter((item) => item.chat === chat);
        this.element.querySelector(".older").hidden = !messages || messages.lowest === 1;
        const empty = this.element.querySelector(".empty");
        empty.hidden = this.list.childElementCount + waiting.length > 0;
        empty.textContent = !chat ? "Add a chat to begin." : "No messages yet.";
        for (const part of this.field.form.elements) part.disabled = !chat || this.#offline;
        this.field.placeholder = this.#offline ? "You are offline" : "Message";
        this.element.querySelector(".outbox").replaceChildren(...waiting.map((item) => this.#waiting(item)));
    }

    #waiting(item) {
        const row = copyOf("message");
        row.classList.add("own", item.error ? "failed" : "waiting");
        row.querySelector(".number").textContent = item.error ? `Not sent: ${item.error}` : "Sending…";
        row.querySelector(".body").textContent = item.body;
        return row;
    }

    #fit() {
        this.field.rows = Math.min(this.field.value.split("\n").length, 6);
    }

    #isAtEnd() {
        return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 40;
    }

    #toEnd() {
        this.scroll.scrollTop = this.scroll.scrollHeight;
        this.element.querySelector(".newest").hidden = true;
    }

    #scrolled() {
        if (this.#isAtEnd()) this.element.querySelector(".newest").hidden = true;
        if (this.scroll.scrollTop < 40) this.#loadOlder();
    }
}
