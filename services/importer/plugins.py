"""What this deployment does with the images that it imports: each plugin on or off, and what it adds to images.

Decompression and injection are done here; conversion and what is read from inside of a disk are the converter's, which
goes by what the log says was switched off when the image was staged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tintype.domain.attributes import SIGNATURE_PROPERTIES, ImageAttributes, checked
from tintype.domain.errors import ConfigurationError, InvalidArgumentError
from tintype.domain.events import ImportPlugin
from tintype.domain.image import Image
from tintype.domain.values import Fact, PropertyValue
from tintype.inspect.inspection import ENCRYPTION

_DESCRIPTIONS: Mapping[ImportPlugin, str] = {
    ImportPlugin.DECOMPRESSION: "Images that come as gzip, zip, xz, zstd or bz2 are decompressed while they come in.",
    ImportPlugin.CONVERSION: "Disks are converted to the format that this site prefers, where it prefers one.",
    ImportPlugin.INTROSPECTION: "What an image says about itself is read, and becomes its facts.",
}


@dataclass(frozen=True, slots=True)
class PluginState:
    """Whether a plugin is on, and in one sentence what it does here."""

    plugin: ImportPlugin
    is_enabled: bool
    description: str


_NEEDED = (ENCRYPTION, "ova_disk_format", "ova_disk_offset", "ova_disk_size_bytes", "vhd_creator")
"""Facts that the converter reads the disk by (:func:`services.converter.plan.readable_disk`)."""


@dataclass(frozen=True, slots=True)
class ImportPlugins:
    """Which are on. ``injected`` properties are added to what is imported; administrators' images are exempt or not."""

    decompression: bool = True
    conversion: bool = True
    introspection: bool = True
    injected: Mapping[str, PropertyValue] = field(default_factory=dict)
    exempts_admins: bool = True

    def switched_off(self, *, is_admin: bool) -> tuple[ImportPlugin, ...]:
        """What is not done with an image; ``is_admin`` says whether an administrator asked for it."""
        return tuple(plugin for plugin in ImportPlugin if not self._is_done(plugin, is_admin=is_admin))

    def injected_into(self, image: Image, *, is_admin: bool) -> Mapping[str, PropertyValue]:
        """The properties that the image is to get.

        Raises:
            InvalidArgumentError: it would have more of them than an image may.
        """
        if not self._is_done(ImportPlugin.INJECTION, is_admin=is_admin):
            return {}
        checked(replace(image.attributes, properties={**image.attributes.properties, **self.injected}))
        return self.injected

    def kept(self, facts: Mapping[str, Fact]) -> Mapping[str, Fact]:
        """The facts that an image is to have; what its conversion goes by is no matter of taste."""
        return facts if self.introspection else {key: facts[key] for key in _NEEDED if key in facts}

    def states(self) -> tuple[PluginState, ...]:
        """All plugins, for those who ask what this deployment does."""
        return tuple(PluginState(plugin, self._is_on(plugin), self._description(plugin)) for plugin in ImportPlugin)

    def _is_done(self, plugin: ImportPlugin, *, is_admin: bool) -> bool:
        is_exempt = plugin is ImportPlugin.INJECTION and self.exempts_admins and is_admin
        return self._is_on(plugin) and not is_exempt

    def _is_on(self, plugin: ImportPlugin) -> bool:
        match plugin:
            case ImportPlugin.DECOMPRESSION:
                return self.decompression
            case ImportPlugin.CONVERSION:
                return self.conversion
            case ImportPlugin.INTROSPECTION:
                return self.introspection
            case ImportPlugin.INJECTION:
                return bool(self.injected)

    def _description(self, plugin: ImportPlugin) -> str:
        if plugin is not ImportPlugin.INJECTION:
            return _DESCRIPTIONS[plugin]
        if not self.injected:
            return "No properties are added to what is imported."
        exempt = ", unless an administrator asked for it" if self.exempts_admins else ""
        return f"The properties {', '.join(sorted(self.injected))} are added to what is imported{exempt}."


def checked_injection(properties: Mapping[str, PropertyValue]) -> Mapping[str, PropertyValue]:
    """The properties to inject, each in the type that its key has.

    Raises:
        ConfigurationError: a value is not of that type, or the key is a signature's, which only a publisher can give.
    """
    fixed = sorted(properties.keys() & set(SIGNATURE_PROPERTIES))
    if fixed:
        raise ConfigurationError(f"{fixed[0]} is the publisher's, and cannot be injected")
    try:
        return checked(ImageAttributes(properties=properties)).properties
    except InvalidArgumentError as exc:
        raise ConfigurationError(exc.message) from exc
