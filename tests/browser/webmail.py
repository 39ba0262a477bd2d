"""What a person does in Roundcube, in terms of what is on the screen (skin "elastic")."""

from urllib.parse import urlencode

from playwright.sync_api import Frame, Locator, Page, expect

from tests.browser.site import Site


class Webmail:
    """One window of the webmail."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site

    # Ways around

    def go(self, task: str, action: str = "", **parameters: str) -> None:
        """Open a page by its address."""
        query = {"_task": task, **({"_action": action} if action else {}), **parameters}
        self.page.goto(f"{self.site.url}?{urlencode(query)}")

    def log_in(self, user: str, password: str) -> None:
        """Fill in the form and wait for the mailbox."""
        self.try_to_log_in(user, password)
        self.page.locator("body.task-mail").wait_for()
        self.loaded()

    def try_to_log_in(self, user: str, password: str) -> None:
        """Fill in the form and send it."""
        self.page.goto(self.site.url)
        self.page.fill("#rcmloginuser", user)
        self.page.fill("#rcmloginpwd", password)
        self.page.click("#rcmloginsubmit")

    def loaded(self) -> None:
        """Wait until nothing is being loaded."""
        expect(self.page.locator("#messagestack .loading")).to_have_count(0)
        self.page.wait_for_function("window.rcmail && !rcmail.busy && document.readyState == 'complete'")

    def notice(self, text: str) -> Locator:
        """Wait for a notice with this *text*."""
        found = self.page.locator("#messagestack", has_text=text)
        found.wait_for()
        return found

    # Reading

    def show_folder(self, folder: str) -> None:
        """Show the list of messages in *folder*."""
        self.go("mail", _mbox=folder)
        self.loaded()

    def row(self, subject: str) -> Locator:
        """The message in the list."""
        return self.page.locator("#messagelist tbody tr", has_text=subject).first

    def read(self, subject: str) -> Frame:
        """Click on the message; returns the frame that shows it."""
        self.row(subject).click()
        return self.reading(subject)

    def reading(self, subject: str) -> Frame:
        """The frame that shows the message with this *subject*, loaded."""
        self.page.frame_locator("#messagecontframe").locator("h2.subject", has_text=subject).wait_for()
        frame = self.page.frame(name="messagecontframe")
        assert frame
        frame.wait_for_function("window.rcmail && document.readyState == 'complete'")
        return frame

    # Writing

    def write(self, to: str = "", subject: str = "", body: str = "") -> None:
        """Open the form for a new message and fill it in."""
        self.go("mail", "compose")
        self.editor()
        for recipient in filter(None, [to]):
            self.add_recipient(recipient)
        self.page.fill("#compose-subject", subject)
        if body:
            self.editor().locator("body").fill(body)

    def editor(self) -> Locator:
        """The HTML editor, ready."""
        self.page.locator(".tox-editor-container").wait_for()
        self.page.wait_for_function(
            "window.tinymce && tinymce.activeEditor && tinymce.activeEditor.initialized"
        )
        self.loaded()
        return self.page.frame_locator("#composebody_ifr").locator("html")

    def add_recipient(self, address: str) -> None:
        """Type *address* into the To field."""
        field = self.page.locator("#compose_to input[type=text]")
        field.fill(address)
        field.press("Enter")

    def attach(self, name: str, media_type: str, data: bytes) -> None:
        """Attach a file and wait until it is there."""
        self.page.set_input_files("#uploadformInput", {"name": name, "mimeType": media_type, "buffer": data})
        self.page.locator("#attachment-list li:not(.uploading)", has_text=name).wait_for()

    def send(self) -> None:
        """Click on Send and wait until the message is sent."""
        self.click_send()
        self.page.locator("body.action-none.task-mail, body.task-mail:not(.action-compose)").first.wait_for()

    def click_send(self) -> None:
        """Click on Send."""
        self.page.locator(".send:visible").first.click()
