from django.db import migrations, models


def add_owners(apps, schema_editor):
    """Each Redis that owns partitions gets its row."""
    alias = schema_editor.connection.alias
    partitions = apps.get_model("writelog", "Partition").objects.using(alias)
    owners = apps.get_model("writelog", "Owner").objects.using(alias)
    for name in set(partitions.exclude(owner="").values_list("owner", flat=True)):
        owners.create(redis=name)


class Migration(migrations.Migration):
    """Several Redis servers can own partitions: one row of `owner` for each, instead of one row in all."""

    dependencies = [
        ("writelog", "0003_owner"),
    ]

    operations = [
        migrations.DeleteModel("Owner"),
        migrations.CreateModel(
            name="Owner",
            fields=[
                (
                    "redis",
                    models.CharField(
                        help_text="Its run_id and replid.", max_length=80, primary_key=True, serialize=False
                    ),
                ),
                (
                    "confirmations",
                    models.BigIntegerField(default=0, help_text="How often it has shown that it is there."),
                ),
            ],
        ),
        migrations.AlterField(
            model_name="partition",
            name="owner",
            field=models.CharField(
                default="",
                help_text="The Redis whose log is stored here: its run_id and replid. Empty: nobody yet.",
                max_length=80,
            ),
        ),
        migrations.AddField(
            model_name="partition",
            name="layout",
            field=models.CharField(
                default="",
                help_text=(
                    "What REDIS_URL said when a Redis last became the owner (servers.py)."
                ),
                max_length=20,
            ),
        ),
        migrations.RunPython(add_owners, migrations.RunPython.noop, elidable=True),
    ]
